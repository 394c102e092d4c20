"""Commands that need no model come without the libraries that take seconds to import."""

import subprocess
import sys

import pytest

from ecgscale import catalogue
from ecgscale.spec import names, part_class

SLOW = ("torch", "pandas", "scipy", "matplotlib")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["list", "studies"], ["list", "backbones"], ["run", "smoek"]], ids=" ".join
)
def test_light_commands_import_nothing_slow(arguments: list[str]) -> None:
    code = (
        "import sys; from ecgscale.cli import main; sys.argv[1:] = " + repr(arguments) + "\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("kind", ["datasets", "backbones", "objectives", "tasks", "laws"])
def test_a_title_read_from_the_source_is_the_title_of_the_class(kind: str) -> None:
    for name in names(kind):
        title = getattr(part_class(kind, name), "title", "")
        assert catalogue.title(kind, name) == (title if isinstance(title, str) else "")


def test_every_packaged_study_has_a_title() -> None:
    assert all(catalogue.title("studies", name) for name in catalogue.packaged())
