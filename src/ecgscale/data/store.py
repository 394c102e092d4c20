"""Object storage as ecgscale asks for it: by URL, through fsspec, which is imported only then.

Credentials, end point and the like come from where fsspec and the store's own library look for them (for S3
`AWS_PROFILE`, `AWS_ENDPOINT_URL`, `FSSPEC_S3_ANON`, …); no message repeats what a library says, it may quote them.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecgscale.data.storage import CorpusError

_URL = re.compile(r"([A-Za-z][\w+.:-]+):/+(.*)")
_PASSWORD = re.compile(r"//[^/@]*:[^/@]*@")
_NO_ANSWER = re.compile("Connect|Timeout|Endpoint|Network|gaierror|Resol")


class NotThereError(CorpusError):
    """There is nothing at a URL."""


def url_of(place: Path | str) -> str | None:
    """Return the URL that a place is, None for a folder. A Path has lost one of the two slashes and gets it back.

    Raises:
        CorpusError: the URL holds a password.
    """
    match = _URL.fullmatch(os.fspath(place))
    if match is None:
        return None
    scheme, rest = match[1].lower(), match[2].rstrip("/")
    url = f"{scheme}:///{rest}" if scheme in ("file", "local") else f"{scheme}://{rest}"
    if _PASSWORD.search(url):
        shown = _PASSWORD.sub("//***@", url)
        raise CorpusError(f"{shown} holds a password, which would be written down with it; give it by the environment")
    return url


def ask(url: str, call: Callable[[Any, str], Any]) -> Any:
    """Do something with the file system of a URL and the path it has there.

    Raises:
        NotThereError: there is nothing at the URL.
        CorpusError: a package is missing, access was denied, the network is down or anything else went wrong.
    """
    store, path = _store(url)
    try:
        return call(store, path)
    except Exception as error:  # the library of every store has its own
        answer = getattr(error.__cause__, "response", None)
        code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
        kind = NotThereError if isinstance(error, FileNotFoundError) and code != "NoSuchBucket" else CorpusError
        raise kind(f"{url} cannot be reached: {_why(error, str(code or type(error).__name__))}") from None


def _why(error: Exception, code: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket" if code == "NoSuchBucket" else "it is not there"
    if isinstance(error, PermissionError):
        return "access was denied; check the credentials and what they may do there"
    if "Credential" in code:
        return "no credentials were found; for S3 set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left where its files are written; make room, or set ECGSCALE_CACHE to a larger disk"
    if isinstance(error, ConnectionError | TimeoutError) or _NO_ANSWER.search(code):
        return f"the network or the server does not answer ({code}); try again"
    return f"its store answered {code}"


def _store(url: str) -> tuple[Any, str]:
    local = {"auto_mkdir": True} if url.startswith(("file:", "local:")) else {}
    try:
        store, path = importlib.import_module("fsspec.core").url_to_fs(url, use_listings_cache=False, **local)
    except ImportError as error:
        how = 'pip install "ecgscale[s3]"' if url.startswith(("s3:", "s3a:")) else str(error)
        raise CorpusError(f"{url} needs a package that is not installed: {how}") from None
    except ValueError:
        raise CorpusError(f"{url} is of no kind that fsspec knows; s3://bucket/path is one") from None
    return store, str(path)
