"""Writes HL7 annotated ECG (ANSI/HL7 V3 ECG, R1-2004) by its implementation guide of 2005-03-21."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from ecgscale.data.hospital import Ecg

_MDC = "2.16.840.1.113883.6.24"
_ACT = "2.16.840.1.113883.5.4"
UV_PER_DIGIT = 2.5
ORIGIN_UV = 10.0


def write(path: Path, ecg: Ecg) -> None:
    """Write an ECG as value = `ORIGIN_UV` + `UV_PER_DIGIT` × digit, with the time base as an increment in seconds."""
    digits = np.rint((ecg.signal * 1000 - ORIGIN_UV) / UV_PER_DIGIT).astype(np.int64)
    leads = "".join(
        _sequence(
            f"MDC_ECG_LEAD_{lead.upper()}",
            _MDC,
            f'<value xsi:type="SLIST_PQ"><origin value="{ORIGIN_UV:g}" unit="uV"/>'
            f'<scale value="{UV_PER_DIGIT:g}" unit="uV"/><digits>{" ".join(map(str, row))}</digits></value>',
        )
        for lead, row in zip(ecg.leads, digits.tolist(), strict=True)
    )
    time = _sequence(
        "TIME_ABSOLUTE",
        _ACT,
        f'<value xsi:type="GLIST_TS"><head value="20230615103000.000"/><increment value="{1 / ecg.rate_hz:.12g}" '
        'unit="s"/></value>',
    )
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<AnnotatedECG xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
        '<id root="61d1a24f-b47e-41aa-ae95-f8ac302f4eeb"/><code code="93000" codeSystem="2.16.840.1.113883.6.12"/>'
        f"{_subject(ecg)}\n"
        f'<component><series><code code="RHYTHM" codeSystem="{_ACT}"/>'
        f"<component><sequenceSet>\n{time}{leads}</sequenceSet></component>{_annotations(ecg)}</series></component>\n"
        f"{_age(ecg)}</AnnotatedECG>\n",
        encoding="utf-8",
    )


def _sequence(code: str, system: str, value: str) -> str:
    return f'<component><sequence><code code="{code}" codeSystem="{system}"/>{value}</sequence></component>\n'


def _subject(ecg: Ecg) -> str:
    sex = ecg.sex or "UN"
    return (
        '<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject><id root="1.2.3" '
        f'extension="{escape(ecg.patient, {chr(34): "&quot;"})}"/><subjectDemographicPerson><name><given>Jane</given>'
        f'<family>Doe</family></name><administrativeGenderCode code="{sex}" codeSystem="2.16.840.1.113883.5.1"/>'
        "</subjectDemographicPerson></trialSubject></subject></subjectAssignment></componentOf></timepointEvent>"
        "</componentOf>"
    )


def _age(ecg: Ecg) -> str:
    if ecg.age is None:
        return ""
    return (
        '<controlVariable><relatedObservation><code code="21612-7" codeSystem="2.16.840.1.113883.6.1" '
        f'displayName="Reported Age"/><value xsi:type="PQ" value="{ecg.age:.0f}" unit="a"/></relatedObservation>'
        "</controlVariable>\n"
    )


def _annotations(ecg: Ecg) -> str:
    statements = "".join(
        f'<component><annotation><code code="MDC_ECG_INTERPRETATION_STATEMENT" codeSystem="{_MDC}"/>'
        f'<value xsi:type="ST">{escape(text)}</value></annotation></component>'
        for text in ecg.statements
    )
    return (
        '<subjectOf><annotationSet><component><annotation><code code="MDC_ECG_INTERPRETATION" '
        f'codeSystem="{_MDC}"/>{statements}</annotation></component></annotationSet></subjectOf>'
    )
