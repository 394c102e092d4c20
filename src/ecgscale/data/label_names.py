"""Which labels of different sources mean the same finding: a small table, so that overlap is a fact and no judgement.

A statement's group in PTB-XL and LUDB (`diag_`, `rhythm_`, …) is no part of its name. The scoring of the PhysioNet/CinC
challenge of 2021 takes CRBBB for RBBB, CLBBB for LBBB, SVPB for PAC and VPB for PVC; so does this table. CODE's RBBB
and LBBB are complete blocks. Names that stand nowhere here equal themselves, whatever the case of their letters.

Source: Ribeiro et al. 2020 (CODE); `dx_mapping_scored.csv` of the challenge; `scp_statements.csv` of PTB-XL;
`ConditionNames_SNOMED-CT.csv` of ecg-arrhythmia (CSN), where AF is flutter, VEB an
escape beat and STE an extension; AHA codes of SPH. AMI is acute in the challenge and anterior in PTB-XL.
"""

from __future__ import annotations

from functools import lru_cache

_GROUPS = ("diag_", "sub_", "super_", "form_", "rhythm_")

_EQUAL = """
normal_ecg = NORM
sinus_rhythm = NSR SR sinus
sinus_bradycardia = SB SBRAD
sinus_tachycardia = ST STach STACH
sinus_arrhythmia = SA SARRH
atrial_fibrillation = AF AFIB
atrial_flutter = AFL AFLT flutter csn:AF
atrial_premature_complexes = PAC SVPB APB
ventricular_premature_complexes = PVC VPB VEB
ventricular_escape_beat = VEsB csn:VEB
pacing_rhythm = PR PACE
first_degree_av_block = 1dAVb IAVB 1AVB
second_degree_av_block = IIAVB 2AVB
complete_av_block = CHB 3AVB av_block_complete
right_bundle_branch_block = RBBB CRBBB
left_bundle_branch_block = LBBB CLBBB
incomplete_right_bundle_branch_block = IRBBB
incomplete_left_bundle_branch_block = ILBBB
intraventricular_conduction_delay = NSIVCB IVCD
left_anterior_fascicular_block = LAnFB LAFB
left_posterior_fascicular_block = LPFB
ventricular_preexcitation = WPW VPEx
left_axis_deviation = LAD ALS axis_left
right_axis_deviation = RAD ARS axis_right
left_ventricular_hypertrophy = LVH
right_ventricular_hypertrophy = RVH
left_atrial_enlargement = LAE LAO/LAE LAH la_hypertrophy
right_atrial_enlargement = RAO/RAE RAH
prolonged_pr_interval = LPR PRIE
prolonged_qt_interval = LQT LNGQT QTIE
low_voltage = LQRSV LVOLT
st_depression = STD csn:STDD
st_elevation = STE
st_extension = csn:STE
t_wave_inversion = TInv INVT
t_wave_abnormality = TAb
early_repolarization = ERe csn:ERV
myocardial_infarction = MI
anterior_mi = AnMI ptbxl:AMI
inferior_mi = ptbxl:IMI
supraventricular_tachycardia = SVT SVTAC
female = sex
"""


def canonical(label: str, dataset: str) -> str:
    """Return the name of what a label of a data set means, in lower case: "atrial_fibrillation" for "rhythm_AFIB".

    Args:
        label: As in a corpus's index, without `label.`.
        dataset: The data set's module, e.g. "csn": a few acronyms mean something else there.
    """
    bare = next((label.removeprefix(group) for group in _GROUPS if label.startswith(group)), label).lower()
    return _meanings().get(f"{dataset}:{bare}") or _meanings().get(bare, bare)


@lru_cache(maxsize=1)
def _meanings() -> dict[str, str]:
    lines = [line.split(" = ") for line in _EQUAL.strip().splitlines()]
    return {name.lower(): meaning for meaning, names in lines for name in names.split()}
