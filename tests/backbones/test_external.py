"""A checkpoint from elsewhere gives the features of the network it holds, and is refused in one sentence otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ecgscale.backbones.external import ExternalError
from ecgscale.lab import Lab
from ecgscale.spec import SpecError, part
from ecgscale.study.bind import Binder
from ecgscale.study.expand import expand
from ecgscale.study.study import Study
from ecgscale.study.table import build_table
from ecgscale.study.work import evaluate_run, train
from ecgscale.training.size import count

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
CONTRACT = {"rate_hz": 100.0, "samples": 1000, "leads": LEADS, "unit": "mV"}
RIBEIRO = {"name": "resnet1d", "dial": 1.0}


def saved(path: Path, architecture: dict[str, Any], prefix: str = "", within: str = "", **extra: Any) -> Any:
    """Write randomly initialised weights of an architecture; return the network."""
    torch.manual_seed(1)
    network = part("backbones", architecture).build(12, 1000)
    state = {prefix + key: value.contiguous() for key, value in network.state_dict().items()} | extra
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({within: state} if within else state, path)
    return network.eval()


def external(path: Path, architecture: dict[str, Any], **fields: Any) -> Any:
    table = {"name": "external", "label": "public", "file": str(path), "architecture": architecture}
    return part("backbones", {**table, **CONTRACT, **fields})


@pytest.mark.parametrize(
    ("architecture", "file", "how"),
    [
        (RIBEIRO, "ribeiro.safetensors", {}),
        ({"name": "net1d", "dial": 0.1}, "net1d.pt", {"prefix": "encoder.", "within": "model", "ignore": ["head."]}),
    ],
)
def test_the_features_are_those_of_the_network_in_the_file(
    tmp_path: Path, make_batch: Callable[..., Any], architecture: dict[str, Any], file: str, how: dict[str, Any]
) -> None:
    where = {k: how[k] for k in ("prefix", "within") if k in how}
    head = {"head.weight": torch.ones(3, 2)} if "ignore" in how else {}
    network = saved(tmp_path / file, architecture, **where, **head)
    spec = external(tmp_path / file, architecture, **how)
    torch.manual_seed(99)  # its own initial values do not matter
    found, batch = spec.build(12, 1000).eval(), make_batch(records=2, samples=1000)
    assert torch.equal(found.encode(batch), network.encode(batch))
    if architecture is RIBEIRO:
        assert 6.5e6 < count(found) < 7.2e6


def test_where_the_file_lies_enters_no_hash_and_what_it_holds_does(tmp_path: Path) -> None:
    small = {"name": "resnet1d", "dial": 0.05}
    for name in ("a.safetensors", "b.safetensors", "c.safetensors"):
        saved(tmp_path / name, small, **({"more": torch.ones(1)} if name[0] == "c" else {}))
    a, b, c = (external(tmp_path / f"{name}.safetensors", small) for name in "abc")
    assert a.uid == b.uid != c.uid
    assert "file" not in a.dump()
    with pytest.raises(SpecError, match="it is another file"):
        external(tmp_path / "c.safetensors", small, sha256=a.sha256)
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "c.safetensors").read_bytes())
    with pytest.raises(ExternalError, match="no longer the file"):
        a.build(12, 1000)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architecture": {"name": "net1d", "dial": 0.1}}, "does not hold the weights of net1d: it lacks"),
        ({"architecture": {"name": "resnet1d", "dial": 0.06}}, "is the dial or the number of leads another"),
        ({"ignore": ["stem"]}, "it lacks stem"),
        ({"within": "model"}, 'has no "model"'),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    saved(tmp_path / "w.safetensors", {"name": "resnet1d", "dial": 0.05})
    spec = external(tmp_path / "w.safetensors", **({"architecture": {"name": "resnet1d", "dial": 0.05}} | change))
    with pytest.raises(ExternalError, match=sentence):
        spec.build(12, 1000)


@pytest.mark.parametrize("content", [b"", b"cos\nsystem\n(S'true'\ntR."])
def test_a_file_that_is_torn_or_would_run_code_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(ExternalError, match="holds no weights that can be read without running its code"):
        external(tmp_path / "w.pt", RIBEIRO).build(12, 1000)
    with pytest.raises(SpecError, match="cannot be read"):
        external(tmp_path / "none.pt", RIBEIRO)


def test_a_study_measures_it_where_its_contract_is_met(tmp_path: Path) -> None:
    small = {"name": "resnet1d", "dial": 0.05}
    saved(tmp_path / "w.safetensors", small)
    one = {"name": "external", "file": str(tmp_path / "w.safetensors"), "architecture": small, **CONTRACT}
    changes = {
        "data.code.count": 100, "data.hospital.count": 60, "arm.0.records": [40], "arm.0.sizes": [20_000],
        "arm.0.families": ["resnet1d-supervised"], "resamples": 20,
        "external": [{**one, "label": "met"}, {**one, "label": "other-rate", "rate_hz": 500.0}],
    }  # fmt: skip
    study, lab = Study.load("smoke", changes), Lab(tmp_path / "lab")
    plan = expand(study, Binder(study, lab, {}))
    (planned,) = [p for p in plan.runs.values() if p.run.origin == "external"]
    refused = [s for s in plan.skipped if s["what"].startswith("other-rate on ")]
    assert len(refused) == len(planned.evaluations) == len(study.evaluate)
    assert refused[0]["reason"] == "other-rate needs rate_hz = 500.0, found 100.0"
    train(lab, planned, "cpu")
    evaluate_run(lab, planned, "cpu")
    rows = build_table(plan, lab)
    rows = rows[(rows["objective"] == "external") & (rows["metric"] == "auroc")]
    assert set(rows["backbone"]) == {"met"}
    assert len(rows) == len(study.evaluate) and rows["value"].between(0, 1).all()
    assert rows["N"].eq(count(planned.run.backbone.build(12, 1000))).all() and rows["D"].eq(0).all()
