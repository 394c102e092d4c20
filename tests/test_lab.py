import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecgscale.lab import DiskFull, Lab, LabError, read_json, write_atomic
from ecgscale.spec import digest

SPEC = {"a": 1}
UID = digest(SPEC)


def test_a_run_is_done_when_its_result_stands_and_its_spec_hashes_to_its_name(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    assert lab.result(UID) is None
    lab.begin(UID, SPEC)
    assert lab.result(UID) is None
    lab.finish(UID, {"x": 1.5})
    assert lab.result(UID) == {"x": 1.5}
    (lab.run(UID) / "spec.json").write_text('{"a": 2}')
    assert lab.result(UID) is None


def test_a_folder_with_another_spec_is_emptied(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.begin(UID, SPEC)
    lab.finish(UID, {})
    (lab.run(UID) / "spec.json").write_text('{"a": 2}')
    lab.begin(UID, SPEC)
    assert lab.result(UID) is None
    assert read_json(lab.run(UID) / "spec.json") == SPEC


def test_a_torn_result_is_no_result(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.begin(UID, SPEC)
    (lab.run(UID) / "result.json").write_text('{"x": 1')
    assert lab.result(UID) is None


def test_a_claim_excludes_and_ends_with_its_process(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    code = f"""
import os, sys
from ecgscale.lab import Lab
lab = Lab({str(tmp_path)!r})
with lab.claim(lab.run("u")) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
    os._exit(9)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "True"
    with lab.claim(lab.run("u")) as mine:
        assert not mine
    child.communicate("\n")
    with lab.claim(lab.run("u")) as mine:
        assert mine


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LabError, match="cannot be written"):
        Lab(tmp_path / "lab")


def test_an_unwritable_lab_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        LabError, match=r"the lab .*file/lab cannot be written: Not a directory; choose another with --lab"
    ):
        Lab(tmp_path / "file" / "lab")


def test_a_full_disk_keeps_what_stood_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="No space left on device; nothing that stood there was lost"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
