"""What a person is told and asked before anything is downloaded."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.console import Console

from ecgscale.data.remote import PhysioNet, Remote, RemoteFile
from ecgscale.datasets import DatasetSpec
from ecgscale.download.client import Client, DownloadError
from ecgscale.download.display import amount
from ecgscale.download.listing import Listing, estimate
from ecgscale.download.patience import Patience
from ecgscale.download.place import Place


@dataclass(frozen=True)
class Need:
    """What is still to come."""

    files: tuple[RemoteFile, ...]
    size: int  # bytes, without what came of them before
    begun: int  # bytes that came of them before
    exact: bool  # else stated by its keepers or estimated from some files

    def __str__(self) -> str:
        return f"{'' if self.exact else 'about '}{amount(self.size)}"


def remote_of(spec: type[DatasetSpec], name: str) -> Remote:
    """Return where the files of a data set are.

    Raises:
        DownloadError: they are not open, and what to do instead.
    """
    if spec.files is not None:
        return spec.files
    if spec.access in ("credentialed", "on request"):
        raise DownloadError(
            f"{spec.title} is not open to all ({spec.access}): apply at {spec.url}, download it there, then ecgscale "
            f"ingest {name} FOLDER --out CORPUS"
        )
    if spec.access != "open":
        raise DownloadError(f"{name} has nothing to download: its data are {spec.access}")
    raise DownloadError(f"{spec.title} is open, but where its files are is not declared: get them at {spec.url}")


def need(remote: Remote, listing: Listing, whole: bool, place: Place, client: Client, patience: Patience) -> Need:
    """Return what is still to come of a list; `whole` tells that it holds all files of the data set.

    Raises:
        DownloadError: a size has to be asked for, and the server cannot be reached.
    """
    absent = tuple(file for file in listing.files if not place.has(file))
    begun = place.begun(absent)
    if absent and whole and isinstance(remote, PhysioNet) and remote.size is not None:
        size, exact = remote.size - place.held(listing.files), False
    else:
        size, exact = estimate(listing, absent, client, patience)
    return Need(absent, max(0, size - begun), begun, exact)


def introduce(console: Console, spec: type[DatasetSpec], listing: Listing, place: Place, need: Need) -> None:
    """Print what is about to be downloaded.

    Raises:
        DownloadError: the disk has no room for it.
    """
    here = len(listing.files) - len(need.files)
    lines = (
        f"{spec.title} {spec.version}",
        f"  licence  {spec.licence}",
        f"  cite     {spec.citation}",
        f"  from     {listing.origin or listing.url(listing.files[0])}",
        f"  files    {len(listing.files):,}" + (f", {here:,} of them here" if here else ""),
        f"  to come  {need}",
        f"  to       {place.root}, {amount(place.room())} free",
    )
    console.print("\n".join(lines), soft_wrap=True, markup=False)
    if need.size > place.room():
        raise DownloadError(
            f"{spec.title} needs {need} more, {place.root} has {amount(place.room())} free; make room, choose another "
            "folder, or take a part with --only"
        )


def consent(console: Console, spec: type[DatasetSpec], need: Need) -> None:
    """Ask whether to go on.

    Raises:
        DownloadError: the answer is no, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise DownloadError(f"nothing was downloaded: say --yes to download {need} of {spec.title} without a question")
    try:
        answer = console.input("Download? [y/N] ", markup=False)
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise DownloadError("nothing was downloaded")
