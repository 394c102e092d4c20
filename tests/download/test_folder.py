"""What happens on this side: kills, a full disk, and folders in which something is already."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ecgscale.download import DownloadError, display, part
from ecgscale.download.fetch import TAGGED

from .server import FILES, LARGE, Handler, Site, get, same, some


def test_a_killed_download_brings_only_the_rest(site: Site, tmp_path: Path) -> None:
    body, gate = some(1, 4 * TAGGED), threading.Event()
    site.publish({"a.zip": body, "b.csv": b"small"})

    def half(handler: Handler, body: bytes) -> None:
        handler.say(200, Content_Length=len(body), ETag=f'"{hashlib.md5(body).hexdigest()}"')
        handler.body(body[: 2 * TAGGED + 777])
        gate.wait(10)
        handler.close_connection = True

    site.odd["a.zip"] = [half]
    out = tmp_path / "ludb"
    line = [sys.executable, "-m", "ecgscale.cli", "download", "ludb", "--out", str(out), "--yes", "--url", site.url]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        for _ in range(3000):
            arrived = (out / "a.zip.part").stat().st_size if (out / "a.zip.part").exists() else 0
            if arrived >= 2 * TAGGED and (out / "b.csv").exists():
                break
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    gate.set()
    assert process.returncode == -signal.SIGKILL
    arrived = (out / "a.zip.part").stat().st_size
    assert 2 * TAGGED <= arrived < len(body)
    site.sent.clear()
    get(site, out)
    assert same(out, {"a.zip": body, "b.csv": b"small"})
    assert site.sent["a.zip"] == len(body) - arrived
    assert site.paths().count("b.csv") == 1


def test_ctrl_c_keeps_what_came(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, gate = some(1, 4 * TAGGED), threading.Event()
    site.publish({"a.zip": body})

    def half(handler: Handler, body: bytes) -> None:
        handler.say(200, Content_Length=len(body), ETag=f'"{hashlib.md5(body).hexdigest()}"')
        handler.body(body[: 2 * TAGGED])
        gate.wait(10)
        handler.body(body[2 * TAGGED :])

    def interrupt(self: display.Display, files: int, came: int, settled: int) -> None:
        if came >= 2 * TAGGED:
            raise KeyboardInterrupt

    site.odd["a.zip"] = [half]
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(display.Display, "update", interrupt)
        get(site, tmp_path / "ludb")
    gate.set()
    arrived = (tmp_path / "ludb/a.zip.part").stat().st_size
    assert arrived >= 2 * TAGGED
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert "Range" in site.headers("a.zip")[-1]


def test_a_full_disk_is_one_sentence_and_what_came_is_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = some(1, LARGE)
    site.publish({"a.zip": body})
    append = part.Part.append

    class Full(io.FileIO):
        def write(self, block: Any) -> int:
            if self.tell() + len(block) > TAGGED:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(block)

    def full(self: part.Part, block: bytes) -> None:
        if not isinstance(self._file, Full):
            self._file.close()
            self._file = Full(self.path, "r+")  # type: ignore[assignment]
        append(self, block)

    with monkeypatch.context() as patched, pytest.raises(DownloadError) as error:
        patched.setattr(part.Part, "append", full)
        get(site, tmp_path / "ludb")
    assert "a.zip.part: no space left on device; make room" in str(error.value)
    assert (tmp_path / "ludb/a.zip.part").stat().st_size == TAGGED
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.headers("a.zip")[-1]["Range"] == f"bytes={TAGGED}-"


def test_a_folder_that_is_there_already_is_taken_over(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    (tmp_path / "ludb/data").mkdir(parents=True)
    for path in ("ludb.csv", "data/0.dat", "data/1.dat", "data/2.dat"):
        (tmp_path / "ludb" / path).write_bytes(FILES[path])
    (tmp_path / "ludb/data/1.dat").write_bytes(FILES["data/1.dat"][:-1] + b"?")
    outcome = get(site, tmp_path / "ludb")
    assert outcome.replaced == ["data/1.dat"]
    assert same(tmp_path / "ludb", FILES)
    assert not {"ludb.csv", "data/0.dat", "data/2.dat"} & set(site.paths())


def test_verify_finds_a_file_that_changed_without_its_size(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    get(site, tmp_path / "ludb")
    changed = tmp_path / "ludb/data/4.dat"
    changed.write_bytes(b"?" + FILES["data/4.dat"][1:])
    assert get(site, tmp_path / "ludb").came == 0
    outcome = get(site, tmp_path / "ludb", verify=True, yes=False)  # nothing is expected to come, so nothing is asked
    assert (outcome.replaced, outcome.came, outcome.files) == (["data/4.dat"], 1004, len(FILES))
    assert same(tmp_path / "ludb", FILES)
    changed.unlink()
    assert get(site, tmp_path / "ludb").came == 1004


def test_a_torn_line_of_the_journal_costs_its_file_only(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    get(site, tmp_path / "ludb")
    journal = tmp_path / "ludb/.ecgscale/done"
    journal.write_bytes(journal.read_bytes()[:-5])
    site.asked.clear()
    get(site, tmp_path / "ludb")
    assert site.asked == [] or {path for _, path, *_ in site.asked} <= {"SHA256SUMS.txt"}
    assert {line.split(" ", 2)[2] for line in journal.read_text().splitlines()} == set(FILES)
    assert get(site, tmp_path / "ludb").files == len(FILES)


def test_two_downloads_do_not_write_into_one_folder(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    gate = threading.Event()

    def second(handler: Handler, body: bytes) -> None:
        try:
            get(site, tmp_path / "ludb", patterns=["ludb.csv"])
        except DownloadError as error:
            handler.site.refusal = str(error)  # type: ignore[attr-defined]
        gate.set()
        handler.well(body)

    site.odd["ludb.csv"] = [second]
    get(site, tmp_path / "ludb")
    assert gate.is_set()
    assert "another download into" in site.refusal  # type: ignore[attr-defined]


def test_a_file_in_the_place_of_the_folder_is_one_sentence(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    (tmp_path / "ludb").write_bytes(b"")
    with pytest.raises(DownloadError, match="is a file; --out takes a folder"):
        get(site, tmp_path / "ludb")
