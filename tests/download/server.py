"""A server of our own on this machine that serves well, badly and maliciously, and how the tests use it."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ecgscale.download import download
from ecgscale.download.fetch import TAGGED
from ecgscale.download.patience import Patience
from ecgscale.download.pool import Outcome

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


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


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
