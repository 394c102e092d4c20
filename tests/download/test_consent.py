"""What a person is told and asked before a download, and shown while it runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ecgscale import cli
from ecgscale.data.remote import Figshare, PhysioNet, Remote, RemoteFile, RemoteFiles, Zenodo
from ecgscale.datasets.ludb import Ludb
from ecgscale.datasets.ptbxl import PtbXl
from ecgscale.download import DownloadError, display, download, listing
from ecgscale.download.client import Client
from ecgscale.download.fetch import TAGGED
from ecgscale.download.patience import Patience
from ecgscale.spec import names, part_class

from .server import FILES, LARGE, Site, get, md5, some


def test_licence_size_and_room_are_told_first(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish(FILES)
    get(site, tmp_path / "ludb")
    told = capsys.readouterr().err
    for text in (Ludb.title, Ludb.licence, Ludb.citation, "8\n", "about 24.6 MB", " free", site.url):
        assert text in told


def test_nobody_to_ask_is_one_sentence_and_nothing_is_written(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.publish(FILES)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys, "argv", ["ecgscale", "download", "ludb", "--out", f"{tmp_path}/x", "--url", site.url])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    assert "ecgscale: nothing was downloaded: say --yes" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("said", "comes"), [("y", True), ("n", False), ("", False)])
def test_a_person_is_asked(said: str, comes: bool, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish(FILES)
    stdin = io.StringIO(f"{said}\n")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    if comes:
        get(site, tmp_path / "ludb", yes=False)
    else:
        with pytest.raises(DownloadError, match=r"nothing was downloaded$"):
            get(site, tmp_path / "ludb", yes=False)
    assert (tmp_path / "ludb/ludb.csv").exists() == comes


@pytest.mark.parametrize(
    ("access", "files", "sentence"),
    [
        ("credentialed", None, "not open to all .credentialed.: apply at https://physionet.org/content/ludb/1.0.1/"),
        ("on request", None, "not open to all"),
        ("yours", None, "has nothing to download: its data are yours"),
        ("open", None, "is open, but where its files are is not declared: get them at https"),
    ],
)
def test_what_is_not_to_be_had_is_one_sentence(
    access: str, files: Remote | None, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ludb, "access", access)
    monkeypatch.setattr(Ludb, "files", files)
    with pytest.raises(DownloadError, match=sentence):
        download("ludb", tmp_path)


def test_too_little_room_is_told_before_anything_comes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.publish(FILES)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(DownloadError, match=r"needs about 24\.6 MB more, .* has 1\.0 MB free"):
        get(site, tmp_path / "ludb")
    assert site.paths() == ["SHA256SUMS.txt"]
    get(site, tmp_path / "ludb", patterns=["*.csv"])


def test_what_came_before_needs_no_room_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = some(1, LARGE)
    site.files["a.zip"] = body
    monkeypatch.setattr(Ludb, "files", RemoteFiles((RemoteFile("a.zip", "", LARGE, f"md5:{md5(body)}"),)))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": LARGE - TAGGED}))
    with pytest.raises(DownloadError, match="needs 2\\.1 MB more"):
        get(site, tmp_path / "ludb")
    (tmp_path / "ludb").mkdir()
    (tmp_path / "ludb/a.zip.part").write_bytes(body[:TAGGED])
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.sent["a.zip"] == LARGE - TAGGED
    assert "to come  1.1 MB" in capsys.readouterr().err


def test_sizes_are_asked_of_a_few_files_of_each_kind(site: Site) -> None:
    files = {f"records{rate}/{i:05}.{end}": bytes(size) for rate, dat in ((100, 2400), (500, 12000))
             for i in range(100) for end, size in (("dat", dat), ("hea", 60))}  # fmt: skip
    site.publish(files)
    connection = Client()
    found = listing.ask(PhysioNet("x/1"), connection, Patience(), site.url)
    assert listing.estimate(found, found.files, connection, Patience()) == (sum(map(len, files.values())), False)
    assert len(site.paths("HEAD")) <= listing.PROBED
    few = [file for file in found.files if file.path.endswith("1.hea")][:5]
    assert listing.estimate(found, few, connection, Patience()) == (300, True)
    connection.close()


def test_every_declared_source_has_an_address() -> None:
    declared = {name: part_class("datasets", name) for name in names("datasets")}
    for name, cls in declared.items():
        remote = getattr(cls, "files", None)
        if remote is not None:
            assert isinstance(remote, RemoteFiles) or listing.origin(remote).startswith("https://"), name
    assert listing.origin(PtbXl.files) == "https://physionet.org/files/ptb-xl/1.0.3/SHA256SUMS.txt"
    assert listing.origin(Ludb.files) == "https://physionet.org/files/ludb/1.0.1/SHA256SUMS.txt"
    assert listing.origin(Zenodo(4916206)) == "https://zenodo.org/api/records/4916206"
    assert listing.origin(Figshare(article=27078763)) == "https://api.figshare.com/v2/articles/27078763"


def test_the_size_stated_for_ludb_is_that_of_its_files(shared_data: Path) -> None:
    assert isinstance(Ludb.files, PhysioNet)
    files = [p for p in (shared_data / "ludb").rglob("*") if p.is_file()]
    assert Ludb.files.size == pytest.approx(sum(p.stat().st_size for p in files), rel=0.01)


def told(every: float, updates: int, terminal: bool = False) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=terminal)
    with display.Display(console, 1000, 10_000_000_000, every) as shown:
        for i in range(1, updates + 1):
            shown.update(1000 * i // updates, 10**9 * i // updates, 10**10 * i // updates)
    return text.getvalue().splitlines()


def test_outside_a_terminal_a_line_comes_each_minute() -> None:
    assert len(told(60.0, 1000)) == 1
    assert told(60.0, 1000)[0].startswith("1,000/1,000 files, 10.0 GB of 10.0 GB, ")
    lines = told(0.0, 4)
    assert lines[0].startswith("250/1,000 files, 2.5 GB of 10.0 GB, ")
    assert lines[0].endswith("min left")


def test_a_terminal_shows_a_bar() -> None:
    assert any("files" in line and "%" in line for line in told(60.0, 4, terminal=True))
