"""Frozen, strict, hashed values, and the one rule by which a name in a study becomes a part.

A `Spec` holds numbers and names only. Its `uid` is the hash of its full dump, defaults included, so two equal specs are
one thing and a changed default is another. A `Plugin` is a Spec that lives alone in a module and is chosen by the
module's name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import pkgutil
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

P = TypeVar("P", bound="Plugin")


class Explained(Exception):
    """An error whose message is one clear sentence for the user; the command line prints it without a traceback."""


class SpecError(Explained, ValueError):
    """A value, key or name in a spec is wrong; the message is one sentence for the person who wrote it."""


class Spec(BaseModel):
    """A frozen value without surprises: unknown keys and wrong types are errors, equal content means equal uid."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, table: dict[str, Any], where: str = "") -> Self:
        """Read a spec from TOML or JSON data.

        Args:
            table: Plain data; lists stand for tuples.
            where: Path of the table in its file, for messages.

        Raises:
            SpecError: an unknown key (with the nearest valid one), a wrong type, a value out of range.
        """
        try:
            return cls.model_validate_json(json.dumps(table))
        except ValidationError as error:
            raise SpecError(_sentence(cls, error, where)) from None

    def dump(self) -> dict[str, Any]:
        """Return everything that defines this value as JSON data, defaults included."""
        return self.model_dump(mode="json")

    @cached_property
    def uid(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical dump."""
        return digest(self.dump())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values; nothing that was computed of this one goes with it."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied


class Plugin(Spec):
    """A Spec that lives alone in a module of its kind's package; the module's name is the part's name."""

    kind: ClassVar[str]  # the package it lives in, e.g. "backbones"
    revision: ClassVar[int] = 1  # bumped when the part's numbers change

    @classmethod
    def part_name(cls) -> str:
        """The name a study uses: the module's last word inside ecgscale, the full dotted path elsewhere."""
        package = f"ecgscale.{cls.kind}."
        return cls.__module__.removeprefix(package)

    def dump(self) -> dict[str, Any]:
        """Return the fields with the part's name and revision."""
        return {"name": self.part_name(), "revision": self.revision, **self.model_dump(mode="json")}


def digest(value: Any) -> str:
    """Hash JSON data: 16 hexadecimal digits of the SHA-256 of its canonical text."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def names(kind: str) -> list[str]:
    """Return the names of the parts that ship with ecgscale, found by walking the folder of `kind`."""
    found = importlib.util.find_spec(f"ecgscale.{kind}")  # the package itself may import torch
    assert found is not None
    return sorted(m.name for m in pkgutil.iter_modules(found.submodule_search_locations) if not m.name.startswith("_"))


@cache
def part_class(kind: str, name: str) -> type[Plugin]:
    """Return the one Plugin class of `kind` in the module that `name` names.

    Args:
        kind: "datasets", "backbones", "objectives", "tasks", "laws" or "study.executors".
        name: A module of that package, or the dotted path of any importable module.

    Raises:
        SpecError: no such module, or it does not hold exactly one such class.
    """
    path = name if "." in name else f"ecgscale.{kind}.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not (path == error.name or path.startswith(error.name + ".")):
            raise
        raise SpecError(f'unknown {_one(kind)} "{name}"{_nearest(name, names(kind))}') from None
    found = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Plugin) and c.__module__ == path and getattr(c, "kind", None) == kind
    ]
    if len(found) != 1:
        raise SpecError(f"module {path} must define exactly one {_one(kind)} class, found {len(found)}")
    return found[0]


def part(kind: str, value: Any, where: str = "") -> Any:
    """Turn a name or a table with the key `name` into a part; a part passes through.

    Args:
        kind: The package of the part.
        value: "resnet1d", {"name": "resnet1d", "dial": 0.1} or a Plugin.
        where: Path in the study, for messages.

    Raises:
        SpecError: unknown name or key.
    """
    if isinstance(value, Plugin):
        return value
    table = {"name": value} if isinstance(value, str) else dict(value)
    if "name" not in table:
        raise SpecError(f"{where or kind[:-1]}: the key `name` is missing; choose one of {', '.join(names(kind))}")
    cls = part_class(kind, table.pop("name"))
    table.pop("revision", None)
    return cls.parse(table, where)


def _one(kind: str) -> str:
    return kind.rpartition(".")[2][:-1]


def _nearest(word: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(word, valid, 1, 0.5)
    return f'; did you mean "{close[0]}"?' if close else f"; known: {', '.join(valid)}"


def _sentence(cls: type[BaseModel], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = ".".join(str(p) for p in (*([where] if where else []), *first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key `{path}`{_nearest(str(first['loc'][-1]), _fields_at(cls, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"the key `{path}` is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"`{path}`: {message[0].lower() + message[1:]}, found {first['input']!r:.80}"


def _fields_at(cls: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for key in path:
        if isinstance(key, str) and key in cls.model_fields:
            inner = cls.model_fields[key].annotation
            for candidate in (inner, *getattr(inner, "__args__", ())):
                if inspect.isclass(candidate) and issubclass(candidate, BaseModel):
                    cls = candidate
    return list(cls.model_fields)
