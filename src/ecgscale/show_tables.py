"""What the commands print of anybody's table: fits, which need no pandas, and the audit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from ecgscale.answers.anyones import compared, fit_groups, law_named, load
from ecgscale.printing import between, print_fits, print_json, print_whole


def show_file_fits(
    path: Path, law: str, columns: Mapping[str, str], group: str | None, floor: float | None, bootstraps: int,
    as_json: bool, out: Path | None,
) -> None:  # fmt: skip
    """Print the fits of anybody's table, and by how much the exponents of its groups differ.

    Args:
        path: A .csv or .parquet file.
        law: Its name.
        columns: {role: column}, see `anyones.load`.
        group: The column whose values are fitted apart.
        floor: Holds the law's constant term; None fits it.
        bootstraps: Resamples of the runs.
        as_json: Print JSON.
        out: Write the JSON there instead, samples included.

    Raises:
        TableError: the table cannot be read or fitted; the sentence says why.
    """
    frame = load(path, columns)
    fits = fit_groups(frame, law_named(law, columns), group, floor, bootstraps)
    dumps = [{**f.dump(), "law_name": law, "family": name} for name, f in fits.items()]
    print_fits(dumps, as_json, out)
    if as_json or out is not None:
        return
    for dump in dumps:
        for line in [dump["reason"], *dump["warnings"]]:
            print(f"{dump['family'] or path.name}: {line}")
    for name, pairs in (compared(fits) if len(fits) > 1 else {}).items():
        for d in pairs:
            print(f"{name} of {d.first} over {d.second}: {d.ratio:.3g} {between(d.lo, d.hi)}, p = {d.corrected:.2g} "
                  "after Holm's correction")  # fmt: skip


def show_audit(path: Path, columns: Mapping[str, str], group: str | None, as_json: bool) -> None:
    """Print the honesty checklist of anybody's results, and the fits.

    Raises:
        TableError: the table cannot be read; the sentence says why.
    """
    import pandas as pd

    from ecgscale.answers.audit import audit

    checks, fits = audit(pd.DataFrame(load(path, columns)), group)
    dumps = [{**f.dump(), "law_name": "scaling", "family": name} for name, f in fits.items()]
    if as_json:
        plain = [{k: v for k, v in d.items() if k != "samples"} for d in dumps]
        print_json({"schema": "ecgscale.audit/1", "checks": [asdict(c) for c in checks], "fits": plain})
        return
    table = Table("check", "verdict", "why")
    for c in checks:
        table.add_row(c.name, c.verdict, c.sentence)
    print_whole(table)
    counts = {v: sum(c.verdict == v for c in checks) for v in ("pass", "fail", "unknown")}
    print(f"{path.name}: {counts['pass']} pass, {counts['fail']} fail, {counts['unknown']} unknown")
    print_fits(dumps, False)
