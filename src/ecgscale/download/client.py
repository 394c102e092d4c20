"""HTTP over connections that stay open, through redirects and proxies.

A data set of 87,000 small files would spend most of its time on handshakes if each had a connection of its own.
Source: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from importlib.metadata import version
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from ecgscale.spec import Explained

AGENT = f"ecgscale/{version('ecgscale')}"
BLOCK = 2**16  # bytes read at once
REDIRECTS = 5
TIMEOUT_S = 60.0  # without a byte

_REDIRECTED = (301, 302, 303, 307, 308)


class DownloadError(Explained, RuntimeError):
    """A download cannot go on; one sentence says what was found and what to do."""


class Client:
    """The connections of one thread: at most one per host, kept open between requests."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._lines: dict[tuple[str, str], _Line] = {}

    @contextmanager
    def request(
        self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Iterator[HTTPResponse]:
        """Yield the answer behind all redirects, its body unread.

        Raises:
            DownloadError: the address is none, or leads from https to http.
            OSError, HTTPException: the server cannot be reached or does not speak HTTP.
        """
        sent = {"User-Agent": AGENT, "Accept-Encoding": "identity", **(headers or {})}
        for _ in range(REDIRECTS + 1):
            place = _place(url)
            response = self._ask(place, sent, method)
            onward = response.getheader("Location") if response.status in _REDIRECTED else None
            if not onward:
                try:
                    yield response
                finally:
                    self._release(place, response)
                return
            response.read(BLOCK)
            self._release(place, response)
            url = _onward(url, onward)
        raise DownloadError(f"{url} is reached only through more than {REDIRECTS} redirects; try a mirror with --url")

    def close(self) -> None:
        """Close all connections."""
        while self._lines:
            self._lines.popitem()[1].connection.close()

    def cut(self) -> None:
        """Break all connections, from another thread: whoever waits for bytes waits no longer."""
        for line in list(self._lines.values()):
            if line.connection.sock is not None:
                with suppress(OSError):
                    line.connection.sock.shutdown(socket.SHUT_RDWR)

    def _ask(self, place: SplitResult, headers: Mapping[str, str], method: str) -> HTTPResponse:
        line = self._lines.get((place.scheme, place.netloc))
        if line is not None:
            try:
                return line.send(place, headers, method)
            except (OSError, HTTPException):  # the server closed it while it was idle: once more on a new one
                self._drop(place)
        line = self._lines[place.scheme, place.netloc] = _connect(place, self.timeout_s)
        try:
            return line.send(place, headers, method)
        except BaseException:
            self._drop(place)
            raise

    def _release(self, place: SplitResult, response: HTTPResponse) -> None:
        """Keep the connection if the whole answer was read; what remains of it would be taken for the next one."""
        if response.length == 0 and not response.chunked:
            response.read()  # nothing: it marks an answer without a body as read
        if not response.isclosed():
            self._drop(place)

    def _drop(self, place: SplitResult) -> None:
        line = self._lines.pop((place.scheme, place.netloc), None)
        if line is not None:
            line.connection.close()


@dataclass
class _Line:
    """A connection, and how requests on it are written when it leads through a proxy."""

    connection: HTTPConnection
    whole_address: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def send(self, place: SplitResult, headers: Mapping[str, str], method: str) -> HTTPResponse:
        target = quote(place.path or "/", safe="%/:=&~+!$,;'@()*[]")
        target += f"?{quote(place.query, safe='%/:=&?~+!$,;@()*[]')}" if place.query else ""
        if self.whole_address:
            target = f"{place.scheme}://{place.netloc}{target}"
        self.connection.request(method, target, headers={**self.headers, **headers})
        return self.connection.getresponse()


def host_of(url: str) -> str:
    """Return the host of an address."""
    return urlsplit(url).netloc


def _connect(place: SplitResult, timeout_s: float) -> _Line:
    host, port = str(place.hostname), place.port
    proxy = _proxy(place)
    context = ssl.create_default_context() if place.scheme == "https" else None
    if proxy is None:
        if context is not None:
            return _Line(HTTPSConnection(host, port, timeout=timeout_s, context=context))
        return _Line(HTTPConnection(host, port, timeout=timeout_s))
    headers = {}
    if proxy.username:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    if context is None:
        connection = HTTPConnection(str(proxy.hostname), proxy.port or 80, timeout=timeout_s)
        return _Line(connection, whole_address=True, headers=headers)
    tunnel = HTTPSConnection(str(proxy.hostname), proxy.port or 80, timeout=timeout_s, context=context)
    tunnel.set_tunnel(host, port or 443, headers)
    return _Line(tunnel)


def _proxy(place: SplitResult) -> SplitResult | None:
    """Return the proxy that the environment names for this address (HTTPS_PROXY, NO_PROXY …)."""
    named = getproxies().get(place.scheme)
    if not named or proxy_bypass(str(place.hostname)):
        return None
    return _place(named if "://" in named else f"http://{named}")


def _place(url: str) -> SplitResult:
    try:
        place = urlsplit(url)
        sound = place.scheme in ("http", "https") and bool(place.hostname) and (place.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        raise DownloadError(f"{url!r} is not the address of a web server; it must begin with https://")
    return place


def _onward(url: str, location: str) -> str:
    onward = urljoin(url, location)
    if url.startswith("https:") and not onward.startswith("https:"):
        raise DownloadError(f"{url} leads to {onward}, out of the encrypted connection; try a mirror with --url")
    return onward
