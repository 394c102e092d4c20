"""Where the files of an open data set are; `ecgscale.download` asks their server for the list and fetches them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PhysioNet:
    """A published version of a PhysioNet project, whose `SHA256SUMS.txt` lists every file.

    Source: https://physionet.org/about/ (`/files/<project>/<version>/` of each project).
    """

    project: str  # name and version: "ptb-xl/1.0.3"
    folder: str = ""  # only this folder of the project, which becomes the root: "training/georgia"
    size: int | None = None  # bytes of all files, since the list has no sizes; None: estimated from some files


@dataclass(frozen=True)
class Zenodo:
    """A Zenodo record: one version of a data set, its files with sizes and MD5. Source: https://developers.zenodo.org."""

    record: int
    after: str = ""  # what to do with the files before ingesting, in words


@dataclass(frozen=True)
class Figshare:
    """A figshare article, or a collection of them: files with sizes and MD5. Source: https://docs.figshare.com."""

    article: int | None = None
    collection: int | None = None
    after: str = ""  # as for Zenodo


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a list."""

    path: str  # below the folder of the data set, parts divided by "/"
    url: str = ""  # "": its path below the address of its list
    size: int | None = None  # bytes
    checksum: str = ""  # "sha256:…" or "md5:…", hexadecimal; "" where none is published


@dataclass(frozen=True)
class RemoteFiles:
    """Files listed here, where no server lists them."""

    files: tuple[RemoteFile, ...]
    after: str = ""  # as for Zenodo


Remote = PhysioNet | Zenodo | Figshare | RemoteFiles
