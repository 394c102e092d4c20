"""Asking again: exponential waits with jitter, and the wait that a server asks for.

Source: RFC 9110, 10.2.3 (Retry-After); "full jitter" of Brooker 2015, "Exponential backoff and jitter".
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import TypeVar

from ecgscale.download.client import Client, DownloadError, host_of

T = TypeVar("T")

LONGEST_S = 900.0  # a server that asks for more is left alone

_LATER = (408, 425, 429, 500, 502, 503, 504)


class FileError(DownloadError):
    """One file cannot be had; the others can."""


class Retry(Exception):
    """What went wrong may go well the next time.

    Args:
        reason: What went wrong.
        after_s: Seconds that the server asks to wait, where it does.
    """

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


class Stopped(Exception):
    """The download ends: another file, or the person in front of it, has stopped it."""


class Patience:
    """How often and after what wait a server is asked again; shared by all threads, since they share its patience.

    Args:
        tries: Attempts in a row that bring nothing new before a file is given up.
        first_s: The longest wait after an attempt that brought something; each one that does not doubles it.
        longest_s: The longest wait that is not asked for.
    """

    def __init__(self, tries: int = 6, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self.tries, self.first_s, self.longest_s = tries, first_s, longest_s
        self.stop = threading.Event()
        self._free_at: dict[str, float] = {}  # when a host may be asked again

    def persist(self, url: str, attempt: Callable[[], T], gained: Callable[[], int] = lambda: 0) -> T:
        """Return what `attempt` returns, called again while it raises `Retry` or the server cannot be reached.

        Args:
            url: What is asked for.
            attempt: The request.
            gained: Bytes there are; an attempt that brought more than any before is no failure.

        Raises:
            FileError: the server was reached, but not this.
            DownloadError: the server cannot be reached.
            Stopped: the download ends.
        """
        failures, most = 0, gained()
        while True:
            self._wait(host_of(url))
            try:
                return attempt()
            except Retry as error:
                problem: Exception = error
                self._hold(host_of(url), error)
            except ssl.SSLCertVerificationError as error:
                raise DownloadError(
                    f"the certificate of {host_of(url)} cannot be verified ({error.verify_message}); if a proxy reads "
                    "along, name its certificates with SSL_CERT_FILE"
                ) from None
            except (OSError, HTTPException) as error:
                problem = error
            failures = 0 if gained() > most else failures + 1
            most = max(most, gained())
            if failures >= self.tries:
                raise self._given_up(url, problem)
            self.pause(random.uniform(0.5, 1.0) * min(self.longest_s, self.first_s * 2**failures))

    def pause(self, seconds: float) -> None:
        """Wait, unless the download ends.

        Raises:
            Stopped: it ends.
        """
        if self.stop.wait(seconds):
            raise Stopped

    def _wait(self, host: str) -> None:
        self.pause(max(0.0, self._free_at.get(host, 0.0) - time.monotonic()))

    def _hold(self, host: str, error: Retry) -> None:
        if error.after_s is None:
            return
        if error.after_s > LONGEST_S:
            raise DownloadError(
                f"{host} asks to wait {error.after_s / 60:.0f} minutes; run the same command then: what came is kept"
            )
        self._free_at[host] = max(self._free_at.get(host, 0.0), time.monotonic() + error.after_s)

    def _given_up(self, url: str, problem: Exception) -> DownloadError:
        if isinstance(problem, Retry):
            return FileError(f"{url}: {problem}, {self.tries} times; run the same command later, or try --url")
        why = (getattr(problem, "strerror", None) or str(problem) or type(problem).__name__).lower()
        return DownloadError(
            f"{host_of(url)} cannot be reached ({why}); run the same command again when it can: what came is kept"
        )


def judge(response: HTTPResponse, url: str) -> None:
    """Return if the answer holds what was asked for.

    Raises:
        Retry: it may hold it later.
        FileError: it will not.
    """
    if response.status in (200, 206):
        if response.getheader("Content-Encoding", "identity") != "identity":
            raise FileError(f"{url} comes compressed although this was not asked for; try a mirror with --url")
        return
    answer = f"the server answered {response.status} {response.reason}"
    if response.status in _LATER:
        raise Retry(answer, _asked_wait(response))
    raise FileError(f"{url}: {answer}; see whether the data set moved, or try a mirror with --url")


def text(client: Client, patience: Patience, url: str, limit: int) -> bytes:
    """Return the body at an address.

    Raises:
        DownloadError: it cannot be had or is longer than `limit` bytes.
    """

    def attempt() -> bytes:
        with client.request(url) as response:
            judge(response, url)
            announced = response.length
            body = response.read(limit + 1)
            if len(body) > limit:
                raise FileError(f"{url} is longer than {limit / 1e6:,.0f} MB: it is no list of files")
            if announced is not None and len(body) < announced:
                raise Retry(f"the connection ended after {len(body):,} of {announced:,} bytes")
            return body

    return patience.persist(url, attempt)


def _asked_wait(response: HTTPResponse) -> float | None:
    """Return the seconds in Retry-After, a number or a date, or in X-RateLimit-Reset, which Zenodo sends."""
    asked = response.getheader("Retry-After", "").strip()
    reset = response.getheader("X-RateLimit-Reset", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except ValueError:
        limited = response.status == 429 and reset.isdecimal()
        return max(0.0, float(reset) - time.time()) if limited else None
