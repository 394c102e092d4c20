"""Tables of the data section: corpora, quarantine, prevalence and patient overlap, from the manifests."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ecgscale.reporting import style
from ecgscale.reporting.tables import Cell, Table, described


def corpora(manifests: list[dict[str, Any]]) -> Table:
    """Return the corpora: size, people, licence, citation, digest."""
    body, records = [], []
    for m in manifests:
        licence, cite = str(m.get("licence") or "not stated"), str(m.get("citation") or "not stated")
        name = Cell(str(m.get("name", "?")), str(m.get("title") or ""), mark="simulated" if m.get("simulated") else "")
        held = quarantined(m)
        cells = (
            name,
            Cell(f"{m.get('records', 0):,}" if m.get("records") is not None else "–", sort=m.get("records")),
            Cell(f"{m.get('patients', 0):,}" if m.get("patients") is not None else "–", sort=m.get("patients")),
            Cell(str(held), sort=held),
            Cell(_ages(m.get("ages") or m.get("age")), f"sex: {_sexes(m.get('sex'))}"),
            Cell(licence, cite),
            Cell(str(m.get("digest") or "–")[:12]),
        )
        body.append(cells)
        kept = {k: v for k, v in m.items() if k not in ("quarantine", "shards", "files", "stamp")}
        records.append(kept | {"quarantined": held})
    head = ("corpus", "records", "patients", "quarantined", "age and sex", "licence and citation", "digest")
    return Table("corpora", "Corpora", "Counts are of records that passed every check.", head, tuple(body), records)


def quarantined(manifest: dict[str, Any]) -> int:
    """Return how many records of a corpus were set aside."""
    held = manifest.get("quarantined")
    return int(held) if held is not None else len(manifest.get("quarantine") or [])


def quarantine(manifests: list[dict[str, Any]]) -> Table:
    """Return the reasons for which records were set aside, counted, with examples."""
    body, records = [], []
    for m in manifests:
        entries = m.get("quarantine") or []
        for reason, n in Counter(str(e.get("reason")) for e in entries).most_common():
            names = [str(e.get("record")) for e in entries if str(e.get("reason")) == reason]
            shown = ", ".join(names[:5]) + (" …" if n > 5 else "")
            body.append((Cell(str(m.get("name"))), Cell(str(n), sort=n), Cell(reason), Cell(shown)))
            records.append({"corpus": m.get("name"), "reason": reason, "count": n, "records": names})
    head = ("corpus", "records", "reason", "which")
    return Table(
        "quarantine", "Quarantine", "Records set aside at ingest; no run has seen them.", head, tuple(body), records
    )


def prevalence(manifests: list[dict[str, Any]]) -> Table:
    """Return the fraction of positive records per label and corpus."""
    found = {str(m.get("name")): _prevalence(m) for m in manifests}
    found = {name: fractions for name, fractions in found.items() if fractions}
    body = []
    for label in sorted({label for fractions in found.values() for label in fractions}):
        values = [fractions.get(label) for fractions in found.values()]
        body.append((Cell(label), *(_percent(v) for v in values)))
    records = [
        {"corpus": name, "label": k, "prevalence": v} for name, fractions in found.items() for k, v in fractions.items()
    ]
    head = ("label", *found)
    return Table(
        "prevalence", "Prevalence", "Positive records among those with a known label.", head, tuple(body), records
    )


def _percent(fraction: float | None) -> Cell:
    return Cell("–") if fraction is None else Cell(f"{100 * fraction:.2g} %", sort=fraction)


def _prevalence(manifest: dict[str, Any]) -> dict[str, float | None]:
    given = manifest.get("prevalence")
    if given:
        return dict(given)
    return {name: counts.get("prevalence") for name, counts in (manifest.get("labels") or {}).items()}


def _ages(ages: Any) -> str:
    if isinstance(ages, dict) and ages.get("known") == 0:
        return "age not known"
    if not isinstance(ages, dict) or style.missing(ages.get("mean")):
        return described(ages)
    return f"{ages['mean']:.0f}" + ("" if style.missing(ages.get("sd")) else f" ± {ages['sd']:.0f} years")


def _sexes(sexes: Any) -> str:
    if not isinstance(sexes, dict) or not sexes:
        return described(sexes)
    total = sum(sexes.values())
    return ", ".join(f"{k} {100 * v / total:.0f} %" for k, v in sexes.items()) if total else "–"


def overlaps(pairs: list[dict[str, Any]]) -> Table:
    """Return the patient overlap of every pair of corpora; tasks of one corpus that say the same share a row."""
    wider = any("common_patients" in p for p in pairs)
    together: dict[tuple[str, ...], list[str]] = {}
    first: dict[tuple[str, ...], dict[str, Any]] = {}
    for p in pairs:
        corpus, _, task = str(p.get("b")).partition(": ")
        key = (str(p.get("a")), corpus, *(str(p.get(k)) for k in ("shared_patients", "common_patients", "verdict")))
        together.setdefault(key, []).extend([task.removesuffix(" (test)")] if task else [])
        first.setdefault(key, p)
    body = []
    for key, tasks in together.items():
        p = first[key]
        cells = [
            Cell(f"{key[0]} × {key[1]}" + (" (test)" if tasks else ""), ", ".join(tasks)),
            Cell(described(p.get("shared_patients")), sort=p.get("shared_patients")),
        ]
        cells += [Cell(described(p.get("common_patients")), sort=p.get("common_patients"))] if wider else []
        body.append((*cells, Cell(str(p.get("verdict", "–")))))
    head = ("pair", "patients on both sides", *(("patients in both corpora",) if wider else ()), "verdict")
    return Table(
        "overlaps", "Patient overlap", "No patient may be pre-trained on and tested on.", head, tuple(body), list(pairs)
    )
