"""The parts and studies that ship with ecgscale, by name and title; no part is imported, so that a list comes at once.

A title is read from the source of its part, because the modules of backbones and objectives import torch.
"""

from __future__ import annotations

import ast
import tomllib
from importlib import resources

from ecgscale.spec import names
from ecgscale.study.files import StudyError, packaged, read

KINDS = ("datasets", "backbones", "objectives", "tasks", "laws", "studies")


def show(kind: str | None) -> None:
    """Print the names of a kind, or the names and titles of all kinds.

    Raises:
        StudyError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise StudyError(f'"{kind}" is not a kind of part; choose one of {", ".join(KINDS)}')
    for each in (kind,) if kind else KINDS:
        listed = packaged() if each == "studies" else names(each)
        if kind is None:
            print(f"{each}:")
        for name in listed:
            print(name if kind else f"  {name:18} {title(each, name)}".rstrip())


def title(kind: str, name: str) -> str:
    """Return the title of a packaged study or part, "" where it has none."""
    if kind == "studies":
        return str(tomllib.loads(read(name)[0]).get("title", ""))
    source = resources.files("ecgscale").joinpath(kind, f"{name}.py").read_text(encoding="utf-8")
    for cls in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for line in cls.body:
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", None)
            value = getattr(line, "value", None)
            if isinstance(target, ast.Name) and target.id == "title" and isinstance(value, ast.Constant):
                return str(value.value)
    return ""
