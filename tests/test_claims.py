"""Who works on a folder: claims end with their process, expire on other machines, and fence what comes late."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ecgscale import claims
from ecgscale.claims import ClaimLost, Owner
from ecgscale.lab import Lab, read_json, write_json
from ecgscale.spec import digest
from ecgscale.training import checkpoint

ELSEWHERE = Owner("another machine", 1, "0")
SPEC = {"a": 1}
UID = digest(SPEC)


def silent(claim: claims.Claim, seconds: float) -> None:
    """Make a claim one that was last touched so long ago."""
    then = time.time() - seconds
    os.utime(claim.path, (then, then))
    claim.beaten -= seconds


def test_a_claim_of_another_machine_holds_until_it_was_silent_for_the_lease(tmp_path: Path) -> None:
    claim = claims.take(tmp_path, ELSEWHERE)
    assert claim is not None and claims.held(tmp_path) and claims.take(tmp_path) is None
    silent(claim, claims.LEASE_S - 5)
    assert claims.held(tmp_path) and claims.take(tmp_path) is None
    silent(claim, claims.LEASE_S + 5)
    assert not claims.held(tmp_path)
    assert claims.take(tmp_path) is not None and claims.held(tmp_path)


def test_a_beat_keeps_a_claim(tmp_path: Path) -> None:
    claim = claims.take(tmp_path, ELSEWHERE)
    assert claim is not None
    silent(claim, claims.LEASE_S / 2)
    claim.beat()
    silent(claim, claims.LEASE_S * 0.6)  # 1.1 leases since it was made
    assert claims.held(tmp_path) and claims.take(tmp_path) is None


def test_a_process_of_this_machine_that_is_gone_holds_nothing_at_once(tmp_path: Path) -> None:
    me = claims.this_process()
    assert (
        claims.take(tmp_path, Owner(me.machine, me.pid, "another beginning")) is not None
    )  # its number was used again
    assert not claims.held(tmp_path)
    assert claims.take(tmp_path, me) is not None and claims.held(tmp_path)


def test_a_folder_given_back_is_free_and_its_numbers_go_on(tmp_path: Path) -> None:
    for _ in range(3):
        claim = claims.take(tmp_path, ELSEWHERE)
        assert claim is not None
        claim.release()
        assert not claims.held(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["claim-3.free"]


@pytest.mark.parametrize("takers", [1, 2])
def test_who_sees_an_old_list_of_the_folder_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takers: int
) -> None:
    for _ in range(takers):
        dead = claims.take(tmp_path, ELSEWHERE)
        assert dead is not None
        silent(dead, claims.LEASE_S + 5)
    assert claims.take(tmp_path) is not None
    seen = iter([(1, False)])  # a list of the folder that a network file system kept for a while
    top = claims._top
    monkeypatch.setattr(claims, "_top", lambda folder: next(seen, None) or top(folder))
    monkeypatch.setattr(claims, "_over", lambda folder, number: True)
    assert claims.take(tmp_path, ELSEWHERE) is None
    assert [p.name for p in tmp_path.iterdir()] == [f"claim-{takers + 1}"]


def test_a_frozen_owner_that_comes_back_late_writes_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    folder = lab.run(UID)
    with pytest.raises(ClaimLost, match="taken over by another process"), lab.claim(folder) as mine:
        assert mine
        lab.begin(UID, SPEC)
        curve = checkpoint.Curve(folder / "curve.jsonl", 0)
        checkpoint.save_state(folder, {"step": 1})
        silent(claims._mine[folder], claims.LEASE_S + 5)
        other = claims.take(folder, ELSEWHERE)
        assert other is not None
        written = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
        for write in (
            lambda: write_json(folder / "evaluations.json", {}),
            lambda: checkpoint.save_state(folder, {"step": 2}),
            lambda: checkpoint.drop_state(folder),
            lambda: curve.log(step=2),
        ):
            with pytest.raises(ClaimLost):
                write()
        assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == written
        lab.finish(UID, {"by": "the frozen one"})
    assert lab.result(UID) is None and lab.held(folder)  # the other's claim stands
    other.release()
    with lab.claim(folder) as mine:
        lab.finish(UID, {"by": "another"})
    assert read_json(folder / "result.json") == {"by": "another"}


def test_a_frozen_owner_whom_nobody_followed_goes_on_under_a_new_number(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    folder = lab.run(UID)
    with lab.claim(folder) as mine, lab.claim(folder) as again:
        assert mine and again
        silent(claims._mine[folder], claims.LEASE_S + 5)
        write_json(folder / "x.json", 1)
        assert claims.take(folder, ELSEWHERE) is None and read_json(folder / "x.json") == 1
    assert not lab.held(folder)
