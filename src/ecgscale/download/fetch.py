"""One file from its server to its place: resumed, counted, checked, and only then under its own name.

Source: RFC 9110, 13.1.5 (If-Range) and 14 (range requests).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from ecgscale.data.remote import RemoteFile
from ecgscale.download.client import BLOCK, Client
from ecgscale.download.part import Part
from ecgscale.download.patience import FileError, Patience, Retry, judge
from ecgscale.download.place import disk

TAGGED = 2**20  # bytes; the version of a shorter file is not worth a file of its own: it begins anew

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Carrier:
    """Brings files over the connections of one thread.

    Args:
        client: The connections.
        patience: When to ask again.
        count: Told of bytes, each time some come, and whether they came over the network or were found in a part;
            their number is negative where a part is thrown away.
    """

    def __init__(self, client: Client, patience: Patience, count: Callable[[int, bool], None]) -> None:
        self.client, self.patience, self.count = client, patience, count

    def bring(self, file: RemoteFile, url: str, target: Path) -> int:
        """Bring a file to its place, where it replaces what is there, and return its size in bytes.

        Raises:
            FileError: the server does not have it, or twice gave something else.
            DownloadError: the server cannot be reached, or the disk is full.
            Stopped: the download ends.
        """
        with Part(target, file.checksum) as part:
            self.count(part.size, False)
            for fresh in (False, True):
                attempt = partial(self._attempt, file, url, part, fresh)
                self.patience.persist(url, attempt, lambda: part.size)
                if part.sound():
                    part.keep(target)
                    return part.size
                self._begin(part)
            part.discard()
        raise FileError(
            f"{file.path} came twice with another {file.checksum.partition(':')[0].upper()} than its list gives; "
            "tell the keepers of the data set, or try a mirror with --url"
        )

    def _attempt(self, file: RemoteFile, url: str, part: Part, fresh: bool) -> None:
        """Ask for what the part lacks and add it."""
        if part.size and part.size == file.size:
            return
        with self.client.request(url, _headers(file, part, fresh)) as response:
            total = self._whole_size(response, part, url)
            if total is not None:
                if file.size is not None and total not in (-1, file.size):
                    raise FileError(f"{url} has {total:,} bytes, not the {file.size:,} of its list; try --url")
                self._receive(response, part, total if file.size is None else file.size)

    def _receive(self, response: HTTPResponse, part: Part, end: int) -> None:
        """Add the body to the part, which then has `end` bytes; -1 where it may have any number."""
        while part.size != end:
            if self.patience.stop.is_set():
                self.patience.pause(0)
            try:
                block = response.read(BLOCK)
            except (OSError, HTTPException) as error:
                raise Retry(f"the connection broke after {part.size:,} bytes ({error})") from None
            if not block:
                break
            if 0 <= end < part.size + len(block):
                raise FileError(f"{part.path.stem} has more than the {end:,} bytes of its list; try --url")
            part.append(block)
            self.count(len(block), True)
        if end not in (-1, part.size):
            raise Retry(f"the connection ended after {part.size:,} of {end:,} bytes")

    def _whole_size(self, response: HTTPResponse, part: Part, url: str) -> int | None:
        """Return the size of the whole file, -1 where the server does not tell it, None where the part holds all of it.

        Raises:
            Retry: the answer does not continue the part, which is thrown away.
        """
        found = _RANGE.fullmatch(response.getheader("Content-Range", "").strip())
        other = part.tag and _tag(response) and _tag(response) != part.tag  # a server may not understand If-Range
        if response.status == 416 and part.size:
            if found is not None and found[3] == str(part.size) and not other:
                return None
            self._begin(part)
            raise Retry("the server has no such part of it")
        judge(response, url)
        if response.status == 206:
            if found is None or found[1] != str(part.size) or other:
                self._begin(part)
                raise Retry("the server gave another part of it than was asked for")
            return -1 if found[3] == "*" else int(found[3])
        announced = -1 if response.length is None else response.length
        self._begin(part, "" if 0 <= announced < TAGGED else _tag(response))
        return announced

    def _begin(self, part: Part, tag: str = "") -> None:
        self.count(-part.size, False)
        part.begin(tag)


def sound_on_disk(file: RemoteFile, target: Path) -> bool:
    """Tell whether a file that is there is the one of the list: by checksum, or by size where none is known."""
    with disk(target):
        if not target.is_file() or file.size not in (None, target.stat().st_size):
            return False
        kind, _, expected = file.checksum.partition(":")
        if not kind:
            return file.size is not None
        with target.open("rb") as content:
            return hashlib.file_digest(content, kind).hexdigest() == expected


def _headers(file: RemoteFile, part: Part, fresh: bool) -> dict[str, str]:
    """Ask for the rest where it can be told to be of the same version: by its name, or in the end by the checksum."""
    headers = {"Cache-Control": "no-cache"} if fresh else {}
    if part.size and (part.tag or file.checksum):
        headers["Range"] = f"bytes={part.size}-"
        if part.tag:
            headers["If-Range"] = part.tag
    return headers


def _tag(response: HTTPResponse) -> str:
    """Return what names the version for If-Range: a strong ETag, or the date of the last change."""
    etag = response.getheader("ETag", "").strip()
    return etag if etag.startswith('"') else response.getheader("Last-Modified", "").strip()
