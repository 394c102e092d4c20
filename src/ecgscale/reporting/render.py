"""One self-contained page and its machine-readable twin, from one `ReportInput`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ecgscale.printing import finite
from ecgscale.reporting import (
    ReportError,
    ReportInput,
    detectable,
    diagnosis,
    downstream,
    effects,
    efficiency,
    findings,
    inventory,
    label_scaling,
    overfitting,
    published,
    ranking,
    shift,
    similar,
    style,
    tables,
    training,
)
from ecgscale.reporting.curves import is_pretext_transfer, law_name
from ecgscale.reporting.rows import PAIRED, comparable, failed, families, forms, paired, prepare, records_of, title
from ecgscale.reporting.tables import Table

if TYPE_CHECKING:
    from ecgscale.reporting.picture import Figure

SCHEMA = "ecgscale.report/1"
_METRICS = ("loss", "auroc", "auprc")
_RULES = (
    "Families are compared at one cell each, chosen without looking at a result: largest N, then largest D, then "
    "lowest seed.",
    "Out of distribution means another corpus, or a label that pre-training did not supervise. Test parts and "
    "out-of-distribution tasks choose nothing.",
    "Losses are means over labels, in nats, on held-out patients; the checkpoint is the one of lowest validation loss "
    "(the last, where an objective's loss is not comparable between runs).",
    "A family wins a task when its 95 % interval lies apart from that of every other family. Overlapping intervals are "
    "written as “cannot tell”; this errs on the side of silence, because all families meet the same patients.",
    "A pretext loss is comparable within its objective only. Families meet on the probe loss on the source labels in "
    "distribution.",
    "Laws are fitted to the grid only (no tuning runs, no baselines), with bootstrap intervals over runs; every fit "
    "has a status and a verdict, and curves are drawn over the measured range, never beyond it.",
    "Compute is measured training FLOP, not 6ND. N counts the encoder that is kept; D counts unique records.",
)


@dataclass(frozen=True)
class Page:
    """A report before it is written: what both the page and its twin are made from."""

    report: ReportInput
    table: pd.DataFrame
    findings: list[str]
    figures: list[Figure]
    tables: list[Table]


def render(report: ReportInput, out: Path) -> Path:
    """Write `out/index.html`, `out/report.json` and the figures as files, `out/figures/<id>.svg`.

    A report that is already there and was made from the same input by the same code is left as it is.

    Args:
        report: What to report; the same input gives the same bytes.
        out: Folder, made if it does not exist.

    Returns:
        The path of the page.

    Raises:
        ReportError: the table is empty or lacks a column, or the folder cannot be written.
    """
    source = fingerprint(report)
    if _up_to_date(out, source):
        return out / "index.html"
    page = compose(report)
    twin, text = json_twin(page) | {"source": source}, html(page)
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        for old in (out / "figures").glob("*.svg"):
            old.unlink()
        for figure in page.figures:
            (out / "figures" / f"{figure.id}.svg").write_text(figure.svg + "\n", encoding="utf-8")
        (out / "report.json").write_text(json.dumps(twin, allow_nan=False) + "\n", encoding="utf-8")
        (out / "index.html").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"cannot write the report to {out}: {error.strerror or error}") from None
    return out / "index.html"


def fingerprint(report: ReportInput) -> str:
    """Return a hash of everything a report is made from: its input and the code and libraries that draw it."""
    hasher = hashlib.sha256(f"{version('matplotlib')} {pd.__version__}".encode())
    for code in sorted(Path(__file__).parent.rglob("*")):
        if code.suffix in (".py", ".j2", ".css", ".js"):
            hasher.update(code.read_bytes())
    hasher.update(report.table.to_csv(index=False).encode())
    rest = {f.name: getattr(report, f.name) for f in fields(report) if f.name != "table"}
    hasher.update(json.dumps(finite(rest), sort_keys=True).encode())
    return hasher.hexdigest()[:16]


def _up_to_date(out: Path, source: str) -> bool:
    try:
        twin = json.loads((out / "report.json").read_text(encoding="utf-8"))
        drawn = [out / "figures" / f"{figure['id']}.svg" for figure in twin["figures"]]
        return bool(twin.get("source") == source) and all(p.is_file() for p in (out / "index.html", *drawn))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def compose(report: ReportInput) -> Page:
    """Return the findings, figures and tables of a report.

    Raises:
        ReportError: the table is empty or lacks a column.
    """
    from ecgscale.reporting.gallery import gallery  # matplotlib: only where a page is drawn

    table = prepare(report)
    rows = comparable(table)
    made = [tables.grid(table), training.rates(report.tuning), training.health(table)]
    metrics = [m for m in _METRICS if m in set(rows["metric"])]
    metrics += sorted(set(rows["metric"]) - {*metrics, PAIRED})
    made += [tables.winners(findings.standings(rows, m), m) for m in metrics[:2]]
    made += [tables.results(rows, m) for m in metrics]
    of_size = replace(report, fits=label_scaling.without(report.fits))
    made += [tables.paired(paired(table)), *tables.forms(forms(report, table)), *_laws(of_size)]
    made += [*diagnosis.tables_of(report.diagnosis, of_size.fits), *detectable.tables_of(of_size.fits)]
    made += published.tables_of(of_size.fits)
    made += label_scaling.tables_of(report.fits, table)
    made += [*ranking.tables_of(report.ranking), *shift.tables_of(report.shift, of_size.fits)]
    made += downstream.tables_of(report.downstream)
    made += overfitting.tables_of(of_size, table)
    made += efficiency.tables_of(report.efficiency)
    made += effects.tables_of(report.effects)
    made += [
        inventory.corpora(report.corpora),
        inventory.prevalence(report.corpora),
        inventory.quarantine(report.corpora),
    ]
    made += [inventory.overlaps(report.overlaps), tables.failures(failed(table)), tables.left_out(report.skipped)]
    said = findings.sentences(of_size, table)
    said[0:0] = ranking.sentences(report.ranking)
    said[-2:-2] = downstream.sentences(report.downstream)
    said[-2:-2] = overfitting.sentences(of_size)
    said[-2:-2] = efficiency.sentences(report.efficiency)
    said[-2:-2] = shift.sentences(report.shift)
    said[-2:-2] = label_scaling.sentences(report.fits)
    said[-2:-2] = similar.sentences(report.similar)
    said[-2:-2] = effects.sentences(report.effects)  # before where the ECGs come from and what was run
    return Page(report, table, said, gallery(report, table), [t for t in made if t.rows])


def _laws(report: ReportInput) -> list[Table]:
    """Return one table per law: L(N, D), loss to loss, the edges, what is asked for the sake of one answer, and the
    laws from the own pretext loss last."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for fit in report.fits:
        groups.setdefault(str(fit.get("law_name") or law_name(fit)), []).append(fit)
    order = {"scaling": 0, "transfer": 1, "power": 2}
    ranked = sorted(groups.items(), key=lambda g: (is_pretext_transfer(g[1][0]), order.get(law_name(g[1][0]), 3), g[0]))
    return [tables.laws(report, fits, name) for name, fits in ranked]


def html(page: Page) -> str:
    """Return the page as one HTML text that loads nothing from anywhere."""
    from ecgscale.reporting.picture import stamp

    templates = files("ecgscale.reporting") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"themed": _themed, "csv": _csv, "style": style, "title": title}
    template = environment.from_string((templates / "report.html.j2").read_text(encoding="utf-8"))
    text: str = template.render(
        page=page,
        report=page.report,
        origin=findings.origin(page.report.corpora),
        stamp=stamp(page.report),
        tables={t.id: t for t in page.tables},
        rules=_RULES,
        css=Markup((templates / "report.css").read_text(encoding="utf-8") + _palette()),
        js=Markup((templates / "report.js").read_text(encoding="utf-8")),
    )
    return text


def json_twin(page: Page) -> dict[str, Any]:
    """Return the report as JSON data; `report.schema.json` describes it."""
    from ecgscale.reporting.picture import stamp

    report = page.report
    looks = style.marks(families(page.table))
    twin = {
        "schema": SCHEMA,
        "study": report.study,
        "command": report.command,
        "origin": findings.origin(report.corpora),
        "simulated": bool(stamp(report)),
        "findings": page.findings,
        "families": [{"name": f, "colour": m.colour, "marker": m.marker} for f, m in looks.items()],
        "figures": [_figure_twin(f, report.command) for f in page.figures],
        "tables": [_table_twin(t, report.command) for t in page.tables],
        "ranking": report.ranking,
        "shift": report.shift,
        "downstream": report.downstream,
        "overfitting": report.overfitting,
        "efficiency": report.efficiency,
        "effects": report.effects,
        "similar": report.similar,
        "overlaps": report.overlaps,
        "skipped": report.skipped,
        "environment": report.environment,
        "notes": report.notes,
    }
    plain: dict[str, Any] = finite(twin)
    return plain


def _figure_twin(figure: Figure, command: str) -> dict[str, Any]:
    records = records_of(figure.frame)
    frame = {"columns": list(figure.frame.columns), "records": records}
    return {
        "id": figure.id,
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "command": command,
        "frame": frame,
    }


def _table_twin(table: Table, command: str) -> dict[str, Any]:
    frame = {"columns": list(dict.fromkeys(k for r in table.records for k in r)), "records": table.records}
    return {
        "id": table.id,
        "title": table.title,
        "caption": table.caption,
        "command": command,
        "head": list(table.head),
        "frame": frame,
    }


def _themed(figure: Figure) -> Markup:
    """Return the SVG for the page: colours follow the page's theme, the picture has a name for screen readers."""
    names = style.css_names()
    svg = re.sub("#[0-9a-f]{6}", lambda m: f"var(--{names[m[0]]})" if m[0] in names else m[0], figure.svg)
    label = Markup.escape(figure.alt)
    width = float(re.search(r'width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{label}" data-width="{width:.0f}" ', 1))


def _palette() -> str:
    names, dark = style.css_names(), style.css_dark()
    light = "".join(f"--{name}:{colour};" for colour, name in names.items() if name not in style.THEME.values())
    night = "".join(f"--{name}:{colour};" for name, colour in dark.items())
    return f"\n:root{{{light}}}\n@media screen and (prefers-color-scheme: dark){{:root{{{night}}}}}\n"


def _csv(figure: Figure) -> str:
    """Return the drawn frame as a data URI, so that one file holds the page and its numbers."""
    text = figure.frame.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    return "data:text/csv;base64," + base64.b64encode(text.encode()).decode()
