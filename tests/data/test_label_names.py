"""Names that mean one finding are equal whatever the source, and those that only look alike are not."""

from __future__ import annotations

import pytest

from ecgscale.data.label_names import canonical


@pytest.mark.parametrize(
    "same",
    [
        [("AF", "code15"), ("rhythm_AFIB", "ptbxl"), ("AFIB", "csn"), ("atrial_fibrillation", "sph"),
         ("rhythm_af", "ludb")],
        [("1dAVb", "simulated"), ("IAVB", "cpsc2018"), ("diag_1AVB", "ptbxl"), ("1AVB", "csn")],
        [("RBBB", "code"), ("CRBBB", "georgia"), ("sub_CRBBB", "ptbxl"), ("right_bundle_branch_block", "sph")],
        [("AFL", "chapman"), ("AF", "csn"), ("rhythm_flutter", "ludb")],
        [("VEB", "cpsc2018"), ("PVC", "georgia"), ("form_PVC", "ptbxl")],
        [("sex", "mimic_iv_ecg"), ("female", "simulated")],
    ],
)  # fmt: skip
def test_equal_names(same: list[tuple[str, str]]) -> None:
    assert len({canonical(*name) for name in same}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("AF", "csn"), ("AF", "code15")),  # flutter, fibrillation
        (("VEB", "csn"), ("VEB", "cpsc2018")),  # escape, ectopic
        (("sub_AMI", "ptbxl"), ("AMI", "chapman")),  # anterior, acute
        (("IRBBB", "georgia"), ("RBBB", "georgia")),
        (("structural", "simulated"), ("shd_moderate_or_greater_flag", "echonext")),
    ],
)
def test_names_that_only_look_alike(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert canonical(*one) != canonical(*other)
