"""The folder of a download: which paths may lie in it, and what is complete in it.

DIR/.ecgscale/list    the server's list, so that a second call need not ask for it
DIR/.ecgscale/done    a line per complete file: size, checksum, path; written when it took its place
"""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ecgscale.data.remote import RemoteFile
from ecgscale.download.client import DownloadError
from ecgscale.download.listing import Listing

STATE = ".ecgscale"


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Turn what an operating system says of a disk into one sentence."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}; make room or choose another folder, then "
            "run the same command again: what came is kept"
        ) from None


class Place:
    """The folder of a download.

    Args:
        root: The folder; made when it is first written.
        files: All that may be written below it.

    Raises:
        DownloadError: a path leads out of the folder, or `root` is not a folder.
    """

    def __init__(self, root: Path, files: tuple[RemoteFile, ...]) -> None:
        self.root = root.expanduser().resolve()
        if self.root.exists() and not self.root.is_dir():
            raise DownloadError(f"{root} is a file; --out takes a folder")
        _check([file.path for file in files])
        self._done = self._read()
        self._made: set[Path] = set()
        self._lock = threading.Lock()

    def target(self, file: RemoteFile) -> Path:
        """Return where a file goes."""
        return self.root / file.path

    def has(self, file: RemoteFile) -> bool:
        """Tell whether a file is there as it was when it was checked."""
        noted = self._done.get(file.path)
        if noted is None or noted[1] != file.checksum or file.size not in (None, noted[0]):
            return False
        try:
            return self.target(file).stat().st_size == noted[0]
        except OSError:
            return False

    def held(self, files: tuple[RemoteFile, ...]) -> int:
        """Return the bytes of the files that `has` tells of."""
        return sum(self._done[file.path][0] for file in files if self.has(file))

    def begun(self, files: tuple[RemoteFile, ...]) -> int:
        """Return the bytes that came of files that are not complete."""
        size = 0
        for file in files:
            with suppress(OSError):
                size += self.target(file).with_name(f"{self.target(file).name}.part").stat().st_size
        return size

    def room(self) -> int:
        """Return the free bytes of the disk."""
        there = self.root
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free

    @contextmanager
    def open(self, listing: Listing) -> Iterator[None]:
        """Make the folder, keep the list in it, and hold it against another download.

        Raises:
            DownloadError: the folder cannot be written, or another download holds it.
        """
        state = self.root / STATE
        with disk(self.root):
            state.mkdir(parents=True, exist_ok=True)
            held = os.open(state, os.O_RDONLY)
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DownloadError(f"another download into {self.root} is running; wait for it") from None
            self._done = self._read()
            with disk(self.root):
                _keep(state / "list", listing.dump())
            yield
        finally:
            os.close(held)

    def parent(self, file: RemoteFile) -> None:
        """Make the folder that a file lies in.

        Raises:
            DownloadError: a link in it leads out of the folder of the download.
        """
        self._make(self.target(file).parent)
        if self.target(file).is_symlink():
            raise DownloadError(f"{self.target(file)} is a link; remove it, since a download replaces files only")

    def note(self, file: RemoteFile, size: int) -> None:
        """Write down that a file is complete."""
        if self._done.get(file.path) == (size, file.checksum):
            return
        line = f"{size} {file.checksum or '-'} {file.path}\n".encode()
        with self._lock, disk(self.root), (self.root / STATE / "done").open("ab") as journal:
            journal.write(line)
            self._done[file.path] = (size, file.checksum)

    def _make(self, folder: Path) -> None:
        if folder in self._made or folder == self.root:
            return
        self._make(folder.parent)
        if folder.is_symlink() and not folder.resolve().is_relative_to(self.root):
            raise DownloadError(f"{folder} is a link that leads out of {self.root}; download to its own folder")
        with disk(folder):
            folder.mkdir(exist_ok=True)
        self._made.add(folder)

    def _read(self) -> dict[str, tuple[int, str]]:
        """Read the journal; a last line without its end was being written when the process was killed."""
        journal = self.root / STATE / "done"
        if not journal.is_file():
            return {}
        text = journal.read_bytes()
        whole, _, torn = text.rpartition(b"\n")
        if torn:
            with disk(journal):
                os.truncate(journal, len(text) - len(torn))
        done = {}
        for line in whole.decode("utf-8", "replace").split("\n"):
            size, _, rest = line.partition(" ")
            checksum, _, path = rest.partition(" ")
            if size.isdecimal():
                done[path] = (int(size), "" if checksum == "-" else checksum)
        return done


def kept_list(root: Path, origin: str) -> Listing | None:
    """Return the list that an earlier download from the same address left in the folder."""
    try:
        listing = Listing.parse((root.expanduser() / STATE / "list").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, DownloadError):
        return None
    return listing if listing.origin == origin else None


def _keep(path: Path, text: str) -> None:
    """Write a file whole; one that says the same stays as it is, since a source is told apart by times too."""
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        new = path.with_name(f"{path.name}.part")
        new.write_text(text, encoding="utf-8")
        new.replace(path)


def _check(paths: list[str]) -> None:
    """Refuse a list with a path that does not stay below the folder, on any system, or that two files would share."""
    listed = set(paths)
    for path in paths:
        parts = path.split("/")
        outside = any(part in ("", ".", "..") for part in parts)  # an absolute path begins with an empty part
        if outside or set(path) & set("\\:") or any(ord(letter) < 32 for letter in path) or parts[0] == STATE:
            raise DownloadError(f"the list of files holds {path!r}, which is no path below a folder: all is refused")
        if f"{path}.part" in listed or f"{path}.part.tag" in listed:
            raise DownloadError(f"the list of files holds {path!r} and {path + '.part'!r}, a name downloads need")
