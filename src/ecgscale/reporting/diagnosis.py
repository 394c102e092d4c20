"""What the laws hang on, for the page: rival forms, changes that should not matter, and exponents that differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ecgscale.fitting.compare import WIDE, Difference, differences
from ecgscale.holm import holm
from ecgscale.laws.scaling import Scaling
from ecgscale.reporting import style
from ecgscale.reporting.curves import Array, Fit, input_of, is_pretext_transfer, law_name, scales
from ecgscale.reporting.rows import title
from ecgscale.reporting.tables import Cell, Table

Record = dict[str, Any]
EXPONENTS = {"alpha": "scaling", "beta": "scaling", "kappa": "transfer"}  # and the law that has it
LEVEL = 0.05
SHIFT = float(np.log(1.25))  # of an exponent: a change that should not matter and moves it further is marked


def tables_of(diagnosis: dict[str, list[Record]], fits: list[Fit]) -> list[Table]:
    """Return what `study.diagnosis.diagnosed` and the bootstrap samples of the fits say; nothing where they are silent.

    Args:
        diagnosis: {"forms", "sensitivity", "shared"}.
        fits: Dumps of LawFit.
    """
    made: list[tuple[str, Callable[[list[Record]], Table]]] = [
        ("forms", _forms), ("sensitivity", _sensitivity), ("shared", _shared)
    ]  # fmt: skip
    tables = [make(diagnosis[name]) for name, make in made if diagnosis.get(name)]
    pairs = pairs_of(fits)
    return [*tables, _differences(pairs)] if pairs else tables


def pairs_of(fits: list[Fit]) -> list[Record]:
    """Return every pair of families whose exponents may be read on one task, `corrected` for all pairs and tasks of
    that exponent together (Holm).

    `p` is that of a normal log ratio with the bootstrap's interval: so many comparisons need smaller values than shares
    of a thousand resamples can be.
    """
    found = []
    for name, law in EXPONENTS.items():
        readable = [f for f in fits if law_name(f) == law and not is_pretext_transfer(f) and f.get("task") != "pretext"]
        readable = [f for f in readable if (f.get("samples") or {}).get(name) and scales(f, input_of(f, name))]
        own: list[Record] = []
        for where in dict.fromkeys(_where(f) for f in readable):
            here = {str(f["family"]): _Fitted.of(f, name) for f in readable if _where(f) == where}
            told = dict(zip(("eval_corpus", "task", "protocol"), where, strict=True))
            own += [{"exponent": name, **told, **asdict(d), "p": _p(d)} for d in differences(here, name)]
        for record, p in zip(own, holm([r["p"] for r in own]).tolist(), strict=True):
            record["corrected"] = p
        found += own
    return found


def _p(pair: Difference) -> float:
    spread = np.log(pair.hi / pair.lo) / (2 * WIDE)
    return float(2 * NormalDist().cdf(-abs(np.log(pair.ratio)) / spread)) if spread > 0 else 0.0


@dataclass(frozen=True)
class _Fitted:
    """One exponent of a dumped fit."""

    params: dict[str, float]
    samples: dict[str, Array]
    status: str

    @classmethod
    def of(cls, fit: Fit, name: str) -> _Fitted:
        samples = np.asarray(fit["samples"][name], np.float64)
        return cls({name: fit["params"][name]}, {name: samples}, str(fit.get("status")))


def _where(fit: Fit) -> tuple[str, str, str]:
    return str(fit.get("eval_corpus")), str(fit.get("task")), str(fit.get("protocol"))


def _differences(pairs: list[Record]) -> Table:
    apart = sorted(
        (r for r in pairs if r["corrected"] < LEVEL), key=lambda r: (r["exponent"], -abs(np.log(r["ratio"])))
    )
    body = tuple(
        (
            Cell(r["exponent"], f"{r['task']}, {r['eval_corpus']}, {r['protocol']}"),
            Cell(f"{title(r['first'])} over {title(r['second'])}"),
            Cell(style.number(r["ratio"]), f"({style.bounds(r['lo'], r['hi'])})", r["ratio"]),
            Cell(f"{r['corrected']:.2g}", sort=r["corrected"]),
        )
        for r in apart
    )
    none = (Cell("none", "no pair differs"), Cell("–"), Cell("–"), Cell("–"))
    caption = (
        f"Ratios of two families' exponents on one task, where both may be read: {len(apart)} of {len(pairs)} pairs "
        f"differ at {LEVEL:.0%} after Holm's correction for all pairs and tasks of an exponent; only these are shown, "
        "all are in report.json. Bootstrap over runs (p of a normal log ratio), families as independent: this errs on "
        "the side of silence."
    )
    return Table("differences", "Exponents that differ", caption, ("exponent", "pair", "ratio", "p, corrected"),
                 body or (none,), pairs)  # fmt: skip


def _shared(records: list[Record]) -> Table:
    body = tuple(
        (
            Cell(r["exponent"]),
            Cell(style.number(r["shared"]), "at the end of its range" if _at_end(r) else "", r["shared"]),
            Cell(f"{r['statistic']:.3g}", f"{r['degrees']} degrees of freedom", r["statistic"]),
            Cell(f"{r['corrected']:.2g}", sort=r["corrected"]),
            Cell("they differ" if r["corrected"] < LEVEL else "cannot tell",
                 mark="" if r["corrected"] < LEVEL else "cannot"),
        )
        for r in records
    )  # fmt: skip
    who = style.listed([title(f) for f in records[0]["families"]])
    caption = (
        f"Likelihood-ratio test that one exponent holds for all families, everything else their own: {who}, "
        "on the probe loss in distribution. Normal errors of log loss, chi-square approximation, p corrected for the "
        "number of exponents (Holm). “Cannot tell” is not “equal”."
    )
    head = ("exponent", "shared value", "likelihood ratio", "p, corrected", "reading")
    return Table("shared", "One exponent for all families?", caption, head, body, records)


def _at_end(record: Record) -> bool:
    low, high = Scaling.bounds[record["exponent"]]
    return not low * 1.001 < record["shared"] < high * 0.999


def _forms(records: list[Record]) -> Table:
    body = []
    for family, along in dict.fromkeys((r["family"], r["along"]) for r in records):
        here = [r for r in records if (r["family"], r["along"]) == (family, along)]
        able = [r for r in here if r["status"] == "compared"]
        if not able:
            continue
        ahead = sorted((r for r in able if not style.missing(r["error"])), key=lambda r: r["error"])
        closest = min((r for r in able if not style.missing(r["aicc"])), key=lambda r: r["aicc"], default=None)
        left = "; ".join(f"{r['form']}: {r['reason']}" for r in here if r["status"] == "too_few")
        body.append((Cell(title(family)), Cell(along), _ahead(ahead[:1]), _ahead(ahead[1:2]),
                     Cell("–" if closest is None else closest["form"]),
                     Cell(left or "–", mark="cannot" if left else "")))  # fmt: skip
    caption = (
        "Every form is fitted to the smaller levels and predicts the next larger one; the mean error of these "
        "predictions judges it. AICc judges the curve inside the points (least squares of log loss). On the probe loss "
        "in distribution, once a family; a family or an edge with too few levels or runs for two forms is left out."
    )
    head = ("family", "along", "predicts best", "next", "lowest AICc", "too few for")
    return Table("forms-of-law", "Rival forms of the law", caption, head, tuple(body), records)


def _ahead(best: list[Record]) -> Cell:
    return Cell(best[0]["form"], f"misses by {100 * best[0]['error']:.2g} %", best[0]["error"]) if best else Cell("–")


def _sensitivity(records: list[Record]) -> Table:
    body = []
    for family in dict.fromkeys(r["family"] for r in records):
        first, *changes = [r for r in records if r["family"] == family]
        worst = max(changes, key=lambda r: r["shift"], default=None)
        total = next((r for r in changes if r["change"] == "N counted as N_total"), None)
        body.append((Cell(title(family)), *(_exponents(first, r) for r in (None, worst, total))))
    caption = (
        "L(N, D) fitted again under each change that should not matter: another loss function, without a seed, without "
        "a level of N or D, and with N counted as all that was trained (heads and teachers included). Marked: an "
        "exponent moves by more than a factor of 1.25. On the probe loss in distribution; all of it in report.json."
    )
    head = ("family", "as fitted", "the change that moves it most", "N counted as N_total")
    return Table("sensitivity", "What the exponents hang on", caption, head, tuple(body), records)


def _exponents(first: Record, change: Record | None) -> Cell:
    shown = first if change is None else change
    text = f"alpha {style.number(shown['alpha'])}, beta {style.number(shown['beta'])}"
    if change is None:
        return Cell(text)
    return Cell(text, f"{change['change']}: × {np.exp(change['shift']):.3g}", change["shift"],
                "cannot" if change["shift"] > SHIFT else "")  # fmt: skip
