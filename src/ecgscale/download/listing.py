"""The files of a data set as its server lists them: PhysioNet's SHA256SUMS.txt, a record of Zenodo or figshare."""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ecgscale.data.remote import Figshare, PhysioNet, Remote, RemoteFile, RemoteFiles, Zenodo
from ecgscale.download.client import Client, DownloadError
from ecgscale.download.patience import FileError, Patience, judge, text

LIMIT = 2**29  # bytes of a list; that of 1.6 million files has about 0.2 GB
PROBED = 24  # files whose size is asked to estimate that of all

_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(.+)")  # as sha256sum writes it
_CHECKSUM = re.compile(r"(md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|)")


@dataclass(frozen=True)
class Listing:
    """What a server holds of a data set."""

    origin: str  # address that the list came from
    base: str  # address of files that have none of their own
    files: tuple[RemoteFile, ...]

    def url(self, file: RemoteFile) -> str:
        """Return the address of a file."""
        return file.url or self.base + quote(file.path)

    def dump(self) -> str:
        """Return the list as text, to be kept beside the files."""
        rows = [(f.path, f.url, f.size, f.checksum) for f in self.files]
        return json.dumps({"origin": self.origin, "base": self.base, "files": rows}, separators=(",", ":"))

    @classmethod
    def parse(cls, kept: str) -> Listing:
        """Read what `dump` wrote."""
        table = json.loads(kept)
        return _listing(table["origin"], table["base"], [RemoteFile(*row) for row in table["files"]])


def origin(remote: Remote, mirror: str | None = None) -> str:
    """Return the address of the list; `mirror` stands for the usual server and serves list and files alike."""
    match remote:
        case PhysioNet(project=project):
            return f"{_folder(mirror or f'https://physionet.org/files/{project}')}SHA256SUMS.txt"
        case Zenodo(record=record):
            return mirror or f"https://zenodo.org/api/records/{record}"
        case Figshare(article=article, collection=collection):
            below = f"articles/{article}" if article else f"collections/{collection}/articles?page_size=100"
            return _folder(mirror or "https://api.figshare.com/v2") + below
        case RemoteFiles():
            return _folder(mirror) if mirror else ""


def ask(remote: Remote, client: Client, patience: Patience, mirror: str | None = None) -> Listing:
    """Return the list of files of a data set.

    Raises:
        DownloadError: the server cannot be reached, or what it holds is no list of files.
    """
    url = origin(remote, mirror)
    match remote:
        case PhysioNet(folder=folder):
            base = url.removesuffix("SHA256SUMS.txt")
            files = _sums(text(client, patience, url, LIMIT), url, _folder(folder) if folder else "")
            return _listing(url, base + quote(_folder(folder) if folder else ""), files)
        case RemoteFiles(files=listed):
            named = [RemoteFile(f.path, "" if mirror else f.url, f.size, f.checksum) for f in listed]
            return _listing(url, url, named)
    try:
        table = json.loads(text(client, patience, url, LIMIT))
        if isinstance(remote, Zenodo):
            return _listing(url, "", [_zenodo(entry) for entry in table["files"]])
        articles = [table] if remote.article else [_article(client, patience, url, entry) for entry in table]
        return _listing(url, "", [_figshare(entry) for article in articles for entry in article["files"]])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DownloadError(f"{url} is not the description of a record with its files; was it moved?") from None


def only(listing: Listing, patterns: Sequence[str]) -> Listing:
    """Keep the files whose path fits a pattern such as "*.csv", or lies in a folder such as "records100".

    Raises:
        DownloadError: a pattern fits nothing.
    """
    kept: dict[str, RemoteFile] = {}
    for pattern in patterns:
        forms = [re.compile(fnmatch.translate(form)) for form in (pattern, pattern.rstrip("/") + "/*")]
        fits = {f.path: f for f in listing.files if any(form.match(f.path) for form in forms)}
        if not fits:
            some = ", ".join(f.path for f in listing.files[:: max(1, len(listing.files) // 3)][:3])
            raise DownloadError(f'no file fits --only "{pattern}"; the {len(listing.files):,} files are like {some}')
        kept |= fits
    return Listing(listing.origin, listing.base, tuple(kept.values())) if patterns else listing


def estimate(listing: Listing, files: Sequence[RemoteFile], client: Client, patience: Patience) -> tuple[int, bool]:
    """Return the bytes of these files, and whether that is exact: a few of each kind are asked for their size.

    Raises:
        DownloadError: the server cannot be reached.
    """
    kinds: dict[tuple[str, ...], list[RemoteFile]] = defaultdict(list)
    for file in files:
        kinds["" if file.size is not None else _top(file.path), _suffix(file.path)].append(file)
    if len(kinds) > PROBED // 2:  # too many folders: by suffix alone
        kinds = defaultdict(list)
        for file in files:
            kinds["", _suffix(file.path)].append(file)
    total, exact = 0.0, True
    for same in kinds.values():
        known = [f.size for f in same if f.size is not None]
        unknown = [f for f in same if f.size is None]
        probes = unknown[:: max(1, -(-len(unknown) * len(kinds) // PROBED))]
        sizes = [_size(listing.url(f), client, patience) for f in probes]
        asked = [size for size in sizes if size is not None]
        exact = exact and len(asked) == len(unknown)
        total += sum(known) + (sum(asked) / len(asked) * len(unknown) if asked else 0)
    return round(total), exact


def _size(url: str, client: Client, patience: Patience) -> int | None:
    def attempt() -> int | None:
        with client.request(url, method="HEAD") as response:
            judge(response, url)
            length = response.getheader("Content-Length", "")
            return int(length) if length.isdecimal() else None

    try:
        return patience.persist(url, attempt)
    except FileError:  # some servers refuse HEAD; what is amiss with the file is told when it is asked for
        return None


def _listing(url: str, base: str, files: list[RemoteFile]) -> Listing:
    if not files:
        raise DownloadError(f"{url} lists no file; was the data set moved?")
    for file in files:
        if not _CHECKSUM.fullmatch(file.checksum) or (file.size is not None and file.size < 0):
            raise DownloadError(f"{url} gives {file.path!r} the checksum {file.checksum!r} and the size {file.size}")
    path, count = Counter(f.path for f in files).most_common(1)[0]
    if count > 1:
        raise DownloadError(f"{url} lists {path!r} {count} times; it cannot be one file")
    return Listing(url, base, tuple(files))


def _sums(body: bytes, url: str, folder: str) -> list[RemoteFile]:
    files = []
    for number, line in enumerate(body.decode("utf-8", "replace").splitlines(), 1):
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            if not line.strip():
                continue
            raise DownloadError(f"line {number} of {url} is {line[:60]!r}, not a SHA-256 and a path: no list of files")
        path = found[2].removeprefix("./")
        if path.startswith(folder):
            files.append(RemoteFile(path[len(folder) :], checksum=f"sha256:{found[1].lower()}"))
    return files


def _zenodo(entry: dict[str, Any]) -> RemoteFile:
    return _file(entry["key"], entry["links"]["self"], entry["size"], str(entry["checksum"]).lower())


def _article(client: Client, patience: Patience, url: str, entry: dict[str, Any]) -> Any:
    below = url.partition("/collections/")[0]
    return json.loads(text(client, patience, f"{below}/articles/{int(entry['id'])}", LIMIT))


def _figshare(entry: dict[str, Any]) -> RemoteFile:
    md5 = entry.get("computed_md5") or entry.get("supplied_md5")
    return _file(entry["name"], entry["download_url"], entry["size"], f"md5:{md5.lower()}" if md5 else "")


def _file(path: Any, url: Any, size: Any, checksum: str) -> RemoteFile:
    if not (isinstance(path, str) and isinstance(url, str) and url and isinstance(size, int)):
        raise TypeError
    return RemoteFile(path, url, size, checksum)


def _folder(url: str) -> str:
    return url.rstrip("/") + "/"


def _top(path: str) -> str:
    return path.partition("/")[0] if "/" in path else ""


def _suffix(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[2]
