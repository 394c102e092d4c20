"""Servers that fail, err or mean harm, and proxies and certificates on the way to them."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ecgscale.data.remote import RemoteFile, RemoteFiles, Zenodo
from ecgscale.datasets.ludb import Ludb
from ecgscale.download import DownloadError, client
from ecgscale.download.client import Client
from ecgscale.download.fetch import TAGGED
from ecgscale.download.pool import FAILURES

from .server import FILES, LARGE, Handler, Site, answer, drop_after, get, other, promise, same, some


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
