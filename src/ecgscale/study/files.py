"""Where study files are: on disk by their path, or in the package by their name. Imports nothing that is slow."""

from __future__ import annotations

import os
import tomllib
from importlib import resources
from pathlib import Path

from ecgscale.spec import Explained


class StudyError(Explained, ValueError):
    """The study cannot be run as it is written or bound; the message says what to change."""


def packaged() -> list[str]:
    """Return the names of the studies that ship with ecgscale."""
    return sorted(
        p.name.removesuffix(".toml") for p in resources.files("ecgscale.studies").iterdir() if p.name.endswith(".toml")
    )


def read(study: str | Path) -> tuple[str, str]:
    """Return the text of a study file and what messages call it.

    Args:
        study: A path ending in .toml, or the name of a packaged study.

    Raises:
        StudyError: no such file or name.
    """
    path = Path(study)
    if path.suffix == ".toml":
        try:
            return path.read_text(), str(path)
        except OSError as error:
            raise StudyError(f"the study {path} cannot be read: {error.strerror}") from None
    if str(study) in packaged():
        return resources.files("ecgscale.studies").joinpath(f"{study}.toml").read_text(), str(study)
    raise StudyError(f'no study "{study}": give a path ending in .toml or one of {", ".join(packaged())}')


def name_of(study: str | Path) -> str:
    """Return the name under which a lab keeps a study, without reading the rest of it.

    Raises:
        StudyError: no such file or name, or it is not TOML or has no name.
    """
    text, where = read(study)
    try:
        return str(tomllib.loads(text)["name"])
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{where} is not TOML: {error}") from None
    except KeyError:
        raise StudyError(f"{where} has no `name`") from None


def user_bindings() -> dict[str, Path]:
    """Return the table [data] of the user's configuration (`$XDG_CONFIG_HOME/ecgscale/config.toml`).

    Raises:
        StudyError: the file is not TOML.
    """
    home = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config"))
    path = home / "ecgscale" / "config.toml"
    if not path.exists():
        return {}
    try:
        return {
            name: Path(value).expanduser() for name, value in tomllib.loads(path.read_text()).get("data", {}).items()
        }
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path} is not TOML: {error}") from None
