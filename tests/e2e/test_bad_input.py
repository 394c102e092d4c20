"""What a person gets wrong gets one clear sentence, a non-zero exit and no traceback."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pytest

from ecgscale.api import show_ingest
from ecgscale.cli import main

COMMAND = [sys.executable, "-m", "ecgscale.cli"]


class Refused(Protocol):
    def __call__(self, *arguments: str) -> str: ...


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must fail, in this process; return the one sentence it says."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ecgscale", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ecgscale: ")]
        assert len(lines) == 1
        return lines[0]

    return run


def test_the_shell_sees_one_sentence_and_a_status() -> None:
    done = subprocess.run([*COMMAND, "run", "smoek"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith('ecgscale: no study "smoek"')
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("plan", "smoke", "--set", "training.stpes=4"), 'unknown key `training.stpes`; did you mean "steps"?'),
        (
            ("plan", "smoke", "--set", "family.0.backbone=resnet2d"),
            'unknown backbone "resnet2d"; did you mean "resnet1d"?',
        ),
        (("run", "smoek"), 'no study "smoek"'),
        (("run", "absent.toml"), "the study absent.toml cannot be read: No such file or directory"),
        (("run", "ptbxl-ludb"), "none of the pre-training data ptbxl1819, ptbxl is bound: add --data ptbxl1819=PATH"),
        (("run", "smoke", "--data", "code=/nowhere/at/all"), "there is no such folder or file"),
        (("run", "smoke", "--data", "cod=."), "has no data of that name"),
        (("run", "smoke", "--device", "tpu"), '--device takes auto, cpu or cuda, found "tpu"'),
        (("list", "planets"), '"planets" is not a kind of part'),
        (("ingest", "ludb", "/nowhere", "--out", "corpus"), "/nowhere: there is no such folder or file"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_a_wrong_command_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, refused: Refused
) -> None:
    lab = () if arguments[0] in ("list", "ingest") else ("--lab", str(tmp_path / "lab"))
    assert sentence in refused(*arguments, *lab)


def test_an_unwritable_lab_is_one_sentence(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written: Not a directory; choose another with --lab" in refused(
        "run", "smoke", "--lab", str(tmp_path / "file" / "lab")
    )


def arrays(folder: Path, signal: np.ndarray, unit: str = "mV", leads: str = "") -> Path:
    """Write an array of ECGs, its table and its descriptor; return the descriptor."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "ecg.npy", signal)
    pd.DataFrame({"id": range(len(signal)), "patient": range(len(signal)), "AF": 0}).to_csv(
        folder / "t.csv", index=False
    )
    descriptor = folder / "describe.toml"
    descriptor.write_text(
        f'signal = "ecg.npy"\naxes = "record time lead"\nrate_hz = 100.0\nunit = "{unit}"\ntable = "t.csv"\n'
        f'id = "id"\npatient = "patient"\npopulation = "p"\nlabels = {{rhythm = ["AF"]}}\n{leads}'
    )
    return descriptor


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    from ecgscale.spec import part

    dataset = part("datasets", {"name": "simulated", "count": 12})
    return np.stack([record.signal.T for record in dataset.records(None)])  # record time lead, mV


def ingest(folder: Path, descriptor: Path) -> pd.DataFrame:
    """Ingest an array; return its quarantine."""
    show_ingest("arrays", folder, str(folder / "corpus"), {}, {}, descriptor, 1)
    return pd.read_parquet(folder / "corpus" / "quarantine.parquet")


def test_nan_and_flat_leads_are_quarantined_with_their_reason(signal: np.ndarray, tmp_path: Path) -> None:
    broken = signal.copy()
    broken[3, 100, 1] = np.nan
    broken[5, :, 8] = 0.25
    quarantine = ingest(tmp_path, arrays(tmp_path, broken)).set_index("record")["reason"]
    assert list(quarantine.index) == ["3", "5"]
    assert "NaN" in quarantine["3"]
    assert "V3" in quarantine["5"]
    assert "flat" in quarantine["5"]


def test_a_descriptor_may_name_its_corpus(signal: np.ndarray, tmp_path: Path) -> None:
    from ecgscale.data.corpus import Corpus

    descriptor = arrays(tmp_path, signal)
    for name in ("arrays", "ours"):
        kept = [line for line in descriptor.read_text().splitlines() if not line.startswith("dataset")]
        descriptor.write_text("\n".join([f'dataset = "{name}"', *kept]))
        ingest(tmp_path, descriptor)
        assert Corpus.open(tmp_path / "corpus").name == name


def test_microvolts_called_millivolts_are_named(signal: np.ndarray, tmp_path: Path, refused: Refused) -> None:
    assert "microvolt" in refused(
        "ingest",
        "arrays",
        str(tmp_path),
        "--describe",
        str(arrays(tmp_path, signal * 1000)),
        "--out",
        str(tmp_path / "corpus"),
    )


def test_leads_in_another_order_give_the_same_corpus(signal: np.ndarray, tmp_path: Path) -> None:
    from ecgscale.data.corpus import Corpus
    from ecgscale.units import LEADS

    order = [5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6]
    names = ", ".join(f'"{LEADS[i]}"' for i in order)
    for folder, array, leads in (("a", signal, ""), ("b", signal[:, :, order], f"leads = [{names}]\n")):
        assert ingest(tmp_path / folder, arrays(tmp_path / folder, array, leads=leads)).empty
    a, b = (Corpus.open(tmp_path / f / "corpus") for f in ("a", "b"))
    assert np.array_equal(a.signals(range(12)), b.signals(range(12)))


def test_a_truncated_dat_is_quarantined_with_both_lengths(shared_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "ludb"
    (root / "data").mkdir(parents=True)
    for number in (1, 2, 3):
        for path in (shared_data / "ludb" / "data").glob(f"{number}.*"):
            shutil.copy(path, root / "data")
    for name in ("RECORDS", "ludb.csv"):
        lines = (shared_data / "ludb" / name).read_bytes()
        (root / name).write_bytes(lines)
    dat = root / "data" / "2.dat"
    dat.write_bytes(dat.read_bytes()[:5000])
    show_ingest("ludb", root, str(tmp_path / "corpus"), {}, {}, None, 1)
    quarantine = pd.read_parquet(tmp_path / "corpus" / "quarantine.parquet").set_index("record")["reason"]
    reason = next(r for r in quarantine if "5000" in r or "5,000" in r)
    assert "120000" in reason.replace(",", "")
