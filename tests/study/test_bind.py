"""A corpus that several machines want is made by one of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ecgscale import claims
from ecgscale.study import bind

ELSEWHERE = claims.Owner("another machine", 1, "0")


def test_who_waits_for_a_corpus_finds_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = claims.take(tmp_path / ".c.claims", ELSEWHERE)
    assert other is not None

    def made(_: float) -> None:
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "manifest.json").write_text("{}")

    monkeypatch.setattr(bind.time, "sleep", made)
    with bind._making(tmp_path / "c") as claim:
        assert claim is None


def test_who_waits_for_a_machine_that_died_makes_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = claims.take(tmp_path / ".c.claims", ELSEWHERE)
    assert other is not None
    long_ago = time.time() - claims.LEASE_S - 5
    monkeypatch.setattr(bind.time, "sleep", lambda _: os.utime(other.path, (long_ago, long_ago)))
    with bind._making(tmp_path / "c") as claim:
        assert claim is not None and claims.held(claim)
        claims.check(claim)
    assert not claims.held(claim)
