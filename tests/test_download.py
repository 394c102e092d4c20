"""Downloads from a server of our own on this machine that serves well, badly and maliciously."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from rich.console import Console

from ecgscale import cli
from ecgscale.data.remote import Figshare, PhysioNet, Remote, RemoteFile, RemoteFiles, Zenodo
from ecgscale.datasets.ludb import Ludb
from ecgscale.datasets.ptbxl import PtbXl
from ecgscale.download import DownloadError, client, display, download, listing, part
from ecgscale.download.client import Client
from ecgscale.download.fetch import TAGGED
from ecgscale.download.patience import Patience
from ecgscale.download.pool import FAILURES, Outcome
from ecgscale.spec import names, part_class

LARGE = 2 * TAGGED + 12345

Odd = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Serves the files of a `Site`; the next odd behaviour of a path comes before what is right."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it would wait 40 ms between headers and body
    site: Site

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0].lstrip("/"))
        site = self.site
        site.asked.append((self.command, path, dict(self.headers), self.client_address[1]))
        with site.lock:
            site.now += 1
            site.most = max(site.most, site.now)
        try:
            time.sleep(site.delay)
            self.path_asked = path
            if site.odd.get(path):
                site.odd[path].pop(0)(self, site.files.get(path, b""))
            elif path in site.files:
                self.well(site.files[path])
            else:
                self.say(404)
        except ConnectionError:
            self.close_connection = True
        finally:
            with site.lock:
                site.now -= 1

    do_HEAD = do_CONNECT = do_GET

    def say(self, status: int, **headers: Any) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": 0, **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, body: bytes) -> None:
        if self.command != "HEAD":
            for start in range(0, len(body), 2**15):
                self.wfile.write(body[start : start + 2**15])
                self.site.sent[self.path_asked] += len(body[start : start + 2**15])

    def well(self, body: bytes, if_range: bool = True, ranges: bool = True) -> None:
        """Answer as RFC 9110 has it; `if_range` or `ranges` False: as servers that do not know these."""
        tag = self.site.tags.get(self.path_asked, f'"{hashlib.md5(body).hexdigest()}"')
        wanted, condition = self.headers.get("Range", ""), self.headers.get("If-Range", tag)
        if not (wanted and ranges) or (if_range and condition != tag):
            self.say(200, Content_Length=len(body), ETag=tag)
            return self.body(body)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(body):
            return self.say(416, Content_Range=f"bytes */{len(body)}")
        end = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.say(206, Content_Length=len(body) - start, Content_Range=end, ETag=tag)
        return self.body(body[start:])

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    """A server with files by path, and what it was asked."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), type("Bound", (Handler,), {"site": self}))
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.odd: dict[str, list[Odd]] = {}
        self.asked: list[tuple[str, str, dict[str, str], int]] = []
        self.sent: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.delay = 0.0
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: object) -> None:
        pass

    def publish(self, files: dict[str, bytes], folder: str = "") -> None:
        """Serve files with the list that PhysioNet would give."""
        self.files |= {folder + path: body for path, body in files.items()}
        lines = [f"{hashlib.sha256(body).hexdigest()} {path}" for path, body in self.files.items()]
        self.files["SHA256SUMS.txt"] = "\n".join([*lines, ""]).encode()

    def paths(self, method: str = "GET") -> list[str]:
        return [path for how, path, *_ in self.asked if how == method]

    def headers(self, path: str) -> list[dict[str, str]]:
        return [headers for how, asked, headers, _ in self.asked if asked == path and how == "GET"]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Site()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def some(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


FILES = {f"data/{i}.dat": some(i, 1000 + i) for i in range(6)} | {"ludb.csv": b"ID,Sex\n1,F\n", "empty.txt": b""}


def get(site: Site, out: Path, **options: Any) -> Outcome:
    """Download LUDB from the site, with waits too short to notice."""
    options = {"yes": True, "mirror": site.url, "patience": Patience(3, 0.001), **options}
    return download("ludb", out, **options)


def same(out: Path, files: dict[str, bytes]) -> bool:
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {path: body for path, body in found.items() if not path.startswith(".ecgscale/")} == files


def drop_after(count: int) -> Odd:
    """Promise the file, or the part of it that was asked for, send `count` bytes and hang up."""

    def behave(handler: Handler, body: bytes) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        tag = handler.site.tags.get(handler.path_asked, f'"{hashlib.md5(body).hexdigest()}"')
        if start:
            handler.say(206, Content_Length=len(body) - start, ETag=tag,
                        Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")  # fmt: skip
        else:
            handler.say(200, Content_Length=len(body), ETag=tag)
        handler.body(body[start : start + count])
        handler.close_connection = True

    return behave


def promise(length: int, hang_up: bool) -> Odd:
    """Send the whole file under a false Content-Length."""

    def behave(handler: Handler, body: bytes) -> None:
        handler.say(200, Content_Length=length)
        handler.body(body)
        handler.close_connection = hang_up

    return behave


def answer(status: int, **headers: Any) -> Odd:
    return lambda handler, body: handler.say(status, **headers)


def other(body: bytes) -> Odd:
    return lambda handler, _: handler.well(body, ranges=False)


# ------------------------------------------------------------------------------------------------- what goes well


def test_all_files_come_and_a_second_call_asks_for_nothing(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    outcome = get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)
    assert (outcome.files, outcome.came) == (len(FILES), sum(map(len, FILES.values())))
    assert sorted(site.paths()) == sorted([*FILES, "SHA256SUMS.txt"])
    assert all(headers["User-Agent"].startswith("ecgscale/") for _, _, headers, _ in site.asked)
    site.asked.clear()
    before = Ludb().stamp(tmp_path / "ludb")
    assert get(site, tmp_path / "ludb").files == len(FILES)
    assert site.asked == []
    assert Ludb().stamp(tmp_path / "ludb") == before


def test_never_more_connections_than_asked_for_and_each_is_used_again(site: Site, tmp_path: Path) -> None:
    site.publish({f"{i}.dat": some(i, 500) for i in range(40)})
    site.delay = 0.01
    get(site, tmp_path / "ludb", connections=3)
    ports = Counter(port for _, path, _, port in site.asked if path.endswith(".dat"))
    assert 2 <= site.most <= 3
    assert len(ports) <= 3 < max(ports.values())


def test_a_folder_of_a_project_becomes_the_root(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish({"LICENSE.txt": b"x", "training/georgia-2/E9.hea": b"9"})
    site.publish({"g1/E00001.hea": b"hea", "g1/E00001.mat": b"mat"}, "training/georgia/")
    monkeypatch.setattr(Ludb, "files", PhysioNet("challenge-2021/1.0.3", folder="training/georgia"))
    get(site, tmp_path / "georgia")
    assert same(tmp_path / "georgia", {"g1/E00001.hea": b"hea", "g1/E00001.mat": b"mat"})
    assert set(site.paths()) == {"SHA256SUMS.txt", "training/georgia/g1/E00001.hea", "training/georgia/g1/E00001.mat"}


def test_only_what_fits_a_pattern_comes(site: Site, tmp_path: Path) -> None:
    site.publish({**FILES, "a folder/ü #1?.txt": b"odd names"})
    get(site, tmp_path / "ludb", patterns=["*.csv", "data/3*", "a folder"])
    wanted = {path: FILES[path] for path in ("ludb.csv", "data/3.dat")} | {"a folder/ü #1?.txt": b"odd names"}
    assert same(tmp_path / "ludb", wanted)
    with pytest.raises(DownloadError, match=r'no file fits --only "\*\.mat"; the 9 files are like data/0\.dat'):
        get(site, tmp_path / "ludb", patterns=["*.mat"])
    get(site, tmp_path / "ludb")
    assert Counter(site.paths()).most_common(1)[0][1] == 1  # what an earlier call brought is not asked for again


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


def zenodo(site: Site) -> Remote:
    files = [
        {"key": p, "size": len(b), "checksum": f"md5:{md5(b)}", "links": {"self": f"{site.url}files/{p}/content"}}
        for p, b in FILES.items()
    ]
    site.files = {f"files/{p}/content": b for p, b in FILES.items()} | {"": json.dumps({"files": files}).encode()}
    return Zenodo(1)


def article(site: Site) -> Remote:
    files = [
        {"name": p, "size": len(b), "computed_md5": md5(b), "download_url": f"{site.url}ndownloader/{md5(b)}"}
        for p, b in FILES.items()
    ]
    site.files = {f"ndownloader/{md5(b)}": b for b in FILES.values()}
    site.files["articles/7"] = json.dumps({"files": files}).encode()
    return Figshare(article=7)


def collection(site: Site) -> Remote:
    article(site)
    site.files["collections/5/articles"] = b'[{"id": 7}]'
    return Figshare(collection=5)


def listed(site: Site) -> Remote:
    site.files = dict(FILES)
    return RemoteFiles(tuple(RemoteFile(p, "https://elsewhere/x", len(b), f"md5:{md5(b)}") for p, b in FILES.items()))


@pytest.mark.parametrize("kind", [zenodo, article, collection, listed])
def test_every_kind_of_list_is_understood(
    kind: Callable[[Site], Remote], site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ludb, "files", kind(site))
    get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)
    assert not site.paths("HEAD")  # these lists give sizes


def test_a_redirect_to_another_address_is_followed_with_the_range(site: Site, tmp_path: Path) -> None:
    body = some(1, LARGE)
    site.publish({"a.zip": body})
    site.files["signed/1"] = body
    there = answer(302, Location="/signed/1?key=1")
    site.odd = {"a.zip": [there, there, there], "signed/1": [drop_after(TAGGED)]}
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.headers("signed/1")[1]["Range"] == f"bytes={TAGGED}-"
    assert site.sent["signed/1"] == LARGE


# ------------------------------------------------------------------------------------------- what is told and asked


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


def test_the_command_line_says_what_to_do_next(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Ludb, "files", zenodo(site))
    monkeypatch.setattr(Ludb, "files", Zenodo(1, after="unpack *.zip"))
    line = ["download", "ludb", "--out", f"{tmp_path}/x", "--url", site.url, "-y", "--only", "*.dat", "--only", "*.csv"]
    monkeypatch.setattr(sys, "argv", ["ecgscale", *line])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert f"{tmp_path}/x: 7 files are complete, 6.0 kB came" in told
    assert f"next: unpack *.zip, then ecgscale ingest ludb {tmp_path}/x --out CORPUS" in told


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


# --------------------------------------------------------------------------------------------- servers that fail


def test_a_dropped_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path) -> None:
    body = some(1, LARGE)
    site.publish({"a.zip": body})
    site.odd["a.zip"] = [drop_after(100_000), drop_after(200_000), drop_after(1), drop_after(300_000)]
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.sent["a.zip"] == LARGE
    starts = [headers.get("Range") for headers in site.headers("a.zip")]
    assert starts == [None, "bytes=100000-", "bytes=300000-", "bytes=300001-", "bytes=600001-"]
    tag = f'"{hashlib.md5(body).hexdigest()}"'
    assert [headers.get("If-Range") for headers in site.headers("a.zip")] == [None, *[tag] * 4]
    assert same(tmp_path / "ludb", {"a.zip": body})  # nothing of its version is left


def test_a_file_that_is_always_cut_short_is_given_up_and_kept(site: Site, tmp_path: Path) -> None:
    body = some(1, LARGE)
    site.publish({"a.zip": body, "b.csv": b"b"})
    site.odd["a.zip"] = [drop_after(100_000), *[drop_after(0)] * 9]
    with pytest.raises(DownloadError, match=r"1 of 2 files failed, the first: .*a\.zip: the connection ended after"):
        get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/b.csv").read_bytes() == b"b"
    assert not (tmp_path / "ludb/a.zip").exists()
    assert (tmp_path / "ludb/a.zip.part").stat().st_size == 100_000
    site.odd.clear()
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.sent["a.zip"] == LARGE


def test_a_content_length_too_long_is_found(site: Site, tmp_path: Path) -> None:
    site.publish({"a.csv": b"0123456789"})
    site.odd["a.csv"] = [promise(15, hang_up=True)] * 9
    with pytest.raises(DownloadError, match="connection ended after 10 of 15 bytes, 3 times"):
        get(site, tmp_path / "ludb")


def test_a_content_length_too_short_is_found_and_spoils_no_other_file(site: Site, tmp_path: Path) -> None:
    files = {"a.csv": some(1, 200_000), "b.csv": some(2, 1000), "c.csv": some(3, 1000)}
    site.publish(files)
    site.odd["a.csv"] = [promise(100_000, hang_up=False)]
    get(site, tmp_path / "one", connections=1)
    assert same(tmp_path / "one", files)
    site.odd["a.csv"] = [promise(100_000, hang_up=False)] * 9
    with pytest.raises(DownloadError, match=r"a\.csv came twice with another SHA256"):
        get(site, tmp_path / "two", connections=1)
    assert same(tmp_path / "two", {path: files[path] for path in ("b.csv", "c.csv")})


@pytest.mark.parametrize("length", [999, 1001])
def test_a_length_that_is_not_that_of_the_list_is_found(
    length: int, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["a.csv"] = some(1, 1000)
    site.odd["a.csv"] = [promise(length, hang_up=True)]
    monkeypatch.setattr(Ludb, "files", RemoteFiles((RemoteFile("a.csv", f"{site.url}a.csv", 1000),)))
    with pytest.raises(DownloadError, match=f"has {length:,} bytes, not the 1,000 of its list"):
        get(site, tmp_path / "ludb", mirror=None)
    assert not (tmp_path / "ludb/a.csv").exists()


def test_a_server_without_ranges_makes_it_begin_anew(site: Site, tmp_path: Path) -> None:
    body = some(1, LARGE)
    site.publish({"a.zip": body})
    site.odd["a.zip"] = [drop_after(TAGGED), lambda handler, body: handler.well(body, ranges=False)]
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == body
    assert site.headers("a.zip")[1]["Range"] == f"bytes={TAGGED}-"
    assert site.sent["a.zip"] == TAGGED + LARGE


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_two_versions_are_never_put_together(
    knows_if_range: bool, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = some(1, LARGE), some(2, LARGE)
    site.files["a.zip"] = new
    first = drop_after(TAGGED)

    def before(handler: Handler, body: bytes) -> None:
        site.tags["a.zip"] = '"old"'
        first(handler, old)
        site.tags["a.zip"] = '"new"'

    site.odd["a.zip"] = [before, lambda handler, body: handler.well(body, if_range=knows_if_range)]
    monkeypatch.setattr(Ludb, "files", RemoteFiles((RemoteFile("a.zip", f"{site.url}a.zip", LARGE),)))
    get(site, tmp_path / "ludb", mirror=None)  # without a checksum to find it out in the end
    assert (tmp_path / "ludb/a.zip").read_bytes() == new
    assert site.headers("a.zip")[1]["If-Range"] == '"old"'


@pytest.mark.parametrize(
    ("status", "headers"),
    [(503, {"Retry_After": "0"}), (429, {"X_RateLimit_Reset": "1"}), (500, {}), (408, {"Retry_After": "soon"})],
)
def test_a_busy_server_is_asked_again(status: int, headers: dict[str, str], site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    site.odd = {"SHA256SUMS.txt": [answer(status, **headers)], "ludb.csv": [answer(status, **headers)] * 2}
    get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)


def test_the_wait_a_server_asks_for_holds_for_all_connections(site: Site, tmp_path: Path) -> None:
    site.publish({f"{i}.dat": some(i, 100) for i in range(8)})
    times: list[float] = []

    def slow(handler: Handler, body: bytes) -> None:  # the other connection is busy while the first is told to wait
        time.sleep(0.6)
        handler.well(body)

    site.odd = {f"{i}.dat": [lambda handler, body: (times.append(time.monotonic()), handler.well(body))[1]]
                for i in range(2, 8)}  # fmt: skip
    site.odd |= {"0.dat": [answer(503, Retry_After="1")], "1.dat": [slow]}
    start = time.monotonic()
    get(site, tmp_path / "ludb", connections=2)
    assert min(times) - start >= 0.9


@pytest.mark.parametrize(
    "wait",
    [
        lambda: {"Retry_After": 3600},
        lambda: {"Retry_After": formatdate(time.time() + 3601, usegmt=True)},
        lambda: {"X_RateLimit_Reset": int(time.time()) + 3601},
    ],
)
def test_a_server_that_asks_for_an_hour_is_left_alone(
    wait: Callable[[], dict[str, Any]], site: Site, tmp_path: Path
) -> None:
    site.publish(FILES)
    site.odd["data/1.dat"] = [answer(429, **wait())]
    with pytest.raises(DownloadError, match="asks to wait 60 minutes; run the same command then"):
        get(site, tmp_path / "ludb")
    assert site.paths().count("data/1.dat") == 1


def test_a_wrong_checksum_is_tried_once_more_from_the_beginning(site: Site, tmp_path: Path) -> None:
    good = some(1, LARGE)
    site.publish({"a.zip": good})
    site.odd["a.zip"] = [other(some(2, LARGE))]
    get(site, tmp_path / "ludb")
    assert (tmp_path / "ludb/a.zip").read_bytes() == good
    assert [headers.get("Cache-Control") for headers in site.headers("a.zip")] == [None, "no-cache"]
    assert all("Range" not in headers for headers in site.headers("a.zip"))


def test_a_checksum_wrong_twice_names_the_file_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    site.odd["data/3.dat"] = [other(b"x" * 1003)] * 9
    with pytest.raises(DownloadError, match=r"1 of 8 files failed, the first: data/3\.dat came twice with another"):
        get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", {path: body for path, body in FILES.items() if path != "data/3.dat"})
    assert site.paths().count("data/3.dat") == 2


def test_a_missing_file_costs_no_other_but_many_end_the_download(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    del site.files["data/3.dat"]
    with pytest.raises(DownloadError, match=r"1 of 8 files failed, the first: .*data/3\.dat: the server answered 404"):
        get(site, tmp_path / "ludb")
    assert site.paths().count("data/3.dat") == 1
    site.publish({f"{i}.dat": b"x" for i in range(100)})
    site.odd = {f"{i}.dat": [answer(404)] for i in range(100)}
    with pytest.raises(DownloadError, match=f"{FAILURES} files failed"):
        get(site, tmp_path / "many")
    assert sum(path.endswith(".dat") for path in site.paths()[-80:]) < 40


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"<!DOCTYPE html>\n", "line 1 of .* is '<!DOCTYPE html>', not a SHA-256 and a path"),
        (b"", "lists no file"),
        (b"".join(f"{i:064x} a.csv\n".encode() for i in (1, 2)), "lists 'a.csv' 2 times"),
    ],
)
def test_a_list_that_is_none_is_refused(body: bytes, sentence: str, site: Site, tmp_path: Path) -> None:
    site.files["SHA256SUMS.txt"] = body
    with pytest.raises(DownloadError, match=sentence):
        get(site, tmp_path / "ludb")


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b'{"files": [{"key": 3}]}', b'{"files": 3}', b"null"])
def test_a_record_that_is_none_is_refused(
    body: bytes, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ludb, "files", Zenodo(1))
    site.files[""] = body
    with pytest.raises(DownloadError, match="is not the description of a record with its files"):
        get(site, tmp_path / "ludb")


def test_a_list_that_broke_off_is_asked_for_again(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    site.odd["SHA256SUMS.txt"] = [drop_after(150)]
    get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)


def test_a_server_out_of_reach_is_one_sentence(site: Site, tmp_path: Path) -> None:
    closed = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    closed.server_close()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:\d+ cannot be reached .*refused.*: what came is kept"):
        get(site, tmp_path / "ludb", mirror=f"http://127.0.0.1:{closed.server_port}")


def test_a_server_that_falls_silent_is_asked_again(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(handler: Handler, body: bytes) -> None:
        handler.say(200, Content_Length=len(body))
        time.sleep(0.8)
        handler.close_connection = True

    monkeypatch.setattr(Client.__init__, "__defaults__", (0.4,))
    site.publish(FILES)
    site.odd["ludb.csv"] = [hang]
    get(site, tmp_path / "ludb")
    assert same(tmp_path / "ludb", FILES)


@pytest.mark.parametrize("url", ["physionet.org", "ftp://physionet.org/", "file:///etc/", "http://", "http://a:b/"])
def test_what_is_no_web_address_is_refused(url: str, site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is not the address of a web server"):
        get(site, tmp_path / "ludb", mirror=url)


def test_redirects_without_end_or_out_of_encryption_are_refused(site: Site, tmp_path: Path) -> None:
    site.odd["SHA256SUMS.txt"] = [answer(301, Location="/SHA256SUMS.txt")] * 20
    with pytest.raises(DownloadError, match="more than 5 redirects"):
        get(site, tmp_path / "ludb")
    with pytest.raises(DownloadError, match="out of the encrypted connection"):
        client._onward("https://physionet.org/files/", "http://physionet.org/files/")


# ---------------------------------------------------------------------------------------- servers that mean harm


@pytest.mark.parametrize(
    "path", ["../evil", "data/../../evil", "/etc/evil", "C:/evil", "data\\..\\evil", "a//b", "./../x", ".ecgscale/done"]
)
def test_a_list_that_leads_out_of_the_folder_is_refused_whole(path: str, site: Site, tmp_path: Path) -> None:
    site.publish({"good.csv": b"good"})
    site.files["SHA256SUMS.txt"] += f"{'0' * 64} {path}\n".encode()
    with pytest.raises(DownloadError, match="which is no path below a folder: all is refused"):
        get(site, tmp_path / "out" / "ludb")
    assert not (tmp_path / "out").exists()
    assert site.paths() == ["SHA256SUMS.txt"]


def test_a_link_out_of_the_folder_is_not_followed(site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ludb").mkdir()
    (tmp_path / "ludb/data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="data is a link that leads out of"):
        get(site, tmp_path / "ludb")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["ludb.csv", "ludb.csv.part"])
def test_a_link_in_the_place_of_a_file_is_not_written_through(name: str, site: Site, tmp_path: Path) -> None:
    site.publish(FILES)
    (tmp_path / "ludb").mkdir()
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "ludb" / name).symlink_to(tmp_path / "precious")
    with pytest.raises(DownloadError, match=name.replace(".", r"\.")):
        get(site, tmp_path / "ludb")
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_names_that_a_download_needs_itself_are_refused(site: Site, tmp_path: Path) -> None:
    site.publish({"a.csv": b"a", "a.csv.part": b"b"})
    with pytest.raises(DownloadError, match=r"'a\.csv' and 'a\.csv\.part'"):
        get(site, tmp_path / "ludb")


# -------------------------------------------------------------------------------------- what happens on this side


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


# ------------------------------------------------------------------------------------------- proxies and display


def test_a_proxy_of_the_environment_is_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://me:se%40cret@127.0.0.1:{site.server_port}")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{site.server_port}")
    monkeypatch.setenv("no_proxy", "")
    site.files["http://data.invalid/a b.csv"] = b"through"
    connection = Client()
    with connection.request("http://data.invalid/a b.csv") as response:
        assert response.read() == b"through"
    assert site.asked[-1][2]["Proxy-Authorization"] == "Basic bWU6c2VAY3JldA=="  # me:se@cret
    with pytest.raises(OSError, match="Tunnel connection failed: 404"), connection.request("https://data.invalid/"):
        pass
    assert site.asked[-1][:2] == ("CONNECT", "data.invalid:443")
    connection.close()


def test_a_certificate_must_be_trusted(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    keys = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([openssl, "req", "-x509", "-nodes", *keys, *names], cwd=tmp_path, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    site.socket = context.wrap_socket(site.socket, server_side=True)
    site.publish(FILES)
    mirror = site.url.replace("http:", "https:")
    with pytest.raises(DownloadError, match=r"certificate of 127\.0\.0\.1:\d+ cannot be verified .*SSL_CERT_FILE"):
        get(site, tmp_path / "ludb", mirror=mirror)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    get(site, tmp_path / "ludb", mirror=mirror)
    assert same(tmp_path / "ludb", FILES)


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


def test_nothing_of_torch_is_needed() -> None:
    code = "import sys, ecgscale.download; print([n for n in ('torch', 'pandas', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
