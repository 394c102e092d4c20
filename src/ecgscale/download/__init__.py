"""Open data sets from their own servers: what they are and weigh first, then their files, resumed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from rich.console import Console

from ecgscale.data.remote import PhysioNet, RemoteFiles
from ecgscale.datasets import DatasetSpec
from ecgscale.download.client import Client, DownloadError
from ecgscale.download.consent import consent, introduce, need, remote_of
from ecgscale.download.display import Display, amount
from ecgscale.download.listing import ask, only, origin
from ecgscale.download.patience import Patience
from ecgscale.download.place import Place, kept_list
from ecgscale.download.pool import Outcome, Pool
from ecgscale.spec import part_class

__all__ = ["DownloadError", "download", "show"]

console = Console(stderr=True, highlight=False)


def show(
    dataset: str, out: Path, yes: bool, connections: int, patterns: Sequence[str], mirror: str | None, verify: bool
) -> None:
    """Download a data set and print what there is to do with it."""
    outcome = download(dataset, out, yes, connections, patterns, mirror, verify)
    if outcome.replaced:
        print(f"{len(outcome.replaced):,} files were not those of the list and were replaced: {outcome.replaced[0]} …")
    print(f"{out}: {outcome.files:,} files are complete, {amount(outcome.came)} came")
    remote = remote_of(cast(type[DatasetSpec], part_class("datasets", dataset)), dataset)
    after = "" if isinstance(remote, PhysioNet) else remote.after
    print(f"next: {f'{after}, then ' if after else ''}ecgscale ingest {dataset} {out} --out CORPUS")


def download(
    dataset: str,
    out: Path | str,
    yes: bool = False,
    connections: int = 4,
    patterns: Sequence[str] = (),
    mirror: str | None = None,
    verify: bool = False,
    patience: Patience | None = None,
) -> Outcome:
    """Bring the files of an open data set to a folder; what is complete there is not asked for again.

    Args:
        dataset: Its name.
        out: The folder; files keep the paths they have on the server.
        yes: Do not ask before downloading.
        connections: At most so many at once to any one host.
        patterns: Only files that fit one of these; all if empty.
        mirror: Address that stands for the usual server.
        verify: Read every file and compare its checksum, and ask the server for its list anew.
        patience: When to give up; one for each call.

    Returns:
        What was done; its `files` are all that are complete.

    Raises:
        SpecError: there is no such data set.
        DownloadError: it is not open, it cannot be had, the disk is full, or a file is not what its list says; what
            came is kept for the next call.
    """
    spec = cast(type[DatasetSpec], part_class("datasets", dataset))
    remote, patience, client = remote_of(spec, dataset), patience or Patience(), Client()
    listed_here = isinstance(remote, RemoteFiles)
    kept = None if verify or listed_here else kept_list(Path(out), origin(remote, mirror))
    try:
        whole = kept or ask(remote, client, patience, mirror)
        listing = only(whole, patterns)
        place = Place(Path(out), listing.files)
        lacking = need(remote, listing, not patterns, place, client, patience)
    finally:
        client.close()
    if lacking.files:
        introduce(console, spec, listing, place, lacking)
        if not yes:
            consent(console, spec, lacking)
    todo = listing.files if verify else lacking.files
    if not todo:
        return Outcome(files=len(listing.files))
    pool = Pool(listing, place, patience, min(connections, len(todo)))
    expected = lacking.size + lacking.begun + (place.held(todo) if verify else 0)
    with place.open(whole), Display(console, len(todo), expected) as display:
        outcome = pool.run(todo, display)
    if outcome.failed:
        raise DownloadError(f"{len(outcome.failed)} of {len(todo):,} files failed, the first: {outcome.failed[0]}")
    outcome.files += len(listing.files) - len(todo)
    return outcome
