"""Writes GE MUSE XML as `restecg.dtd` lays it out: base64 int16 per lead, eight leads, medians before the rhythm.

Element names as in the exports described by https://github.com/BIVectors/BRAVEHEART and
https://sourceforge.net/projects/musexmlexport/.
"""

from __future__ import annotations

import base64
import textwrap
import zlib
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from ecgscale.data.hospital import Ecg

STORED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
UV_PER_BIT = 4.88


def write(path: Path, ecg: Ecg) -> None:
    """Write an ECG with `UV_PER_BIT`; the limb leads III, aVR, aVL and aVF are left out, as MUSE leaves them out."""
    counts = np.rint(ecg.signal * 1000 / UV_PER_BIT).astype("<i2")
    stored = {lead: counts[ecg.leads.index(lead)] for lead in STORED if lead in ecg.leads}
    beats = {lead: row[: round(0.6 * ecg.rate_hz)] // 2 for lead, row in stored.items()}
    statements = "".join(
        f"<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{escape(text)}</StmtText></DiagnosisStatement>"
        for text in ecg.statements
    )
    age = "" if ecg.age is None else f"<PatientAge>{ecg.age:.0f}</PatientAge><AgeUnits>YEARS</AgeUnits>"
    sex = {"F": "FEMALE", "M": "MALE"}.get(ecg.sex or "", "UNKNOWN")
    path.write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>\n'
        "<MuseInfo><MuseVersion>9.0.9.18167</MuseVersion></MuseInfo>\n"
        f"<PatientDemographics><PatientID>{escape(ecg.patient)}</PatientID>{age}<Gender>{sex}</Gender>"
        "<PatientLastName>Doe</PatientLastName><PatientFirstName>Jane</PatientFirstName></PatientDemographics>\n"
        "<TestDemographics><DataType>RESTING</DataType><Site>1</Site><Status>CONFIRMED</Status>"
        "<AcquisitionTime>10:30:00</AcquisitionTime><AcquisitionDate>06-15-2023</AcquisitionDate>"
        "</TestDemographics>\n"
        f"<Diagnosis><Modality>RESTING</Modality>{statements}</Diagnosis>\n"
        f"{_waveform('Median', beats, ecg.rate_hz)}{_waveform('Rhythm', stored, ecg.rate_hz)}</RestingECG>\n",
        encoding="iso-8859-1",
    )


def _waveform(kind: str, counts: dict[str, npt.NDArray[np.int16]], rate_hz: float) -> str:
    leads = "".join(_lead(name, row.astype("<i2").tobytes()) for name, row in counts.items())
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(counts)}</NumberofLeads>"
        f"<SampleType>CONTINUOUS_SAMPLES</SampleType><SampleBase>{rate_hz:.0f}</SampleBase>"
        f"<SampleExponent>0</SampleExponent><HighPassFilter>16</HighPassFilter><LowPassFilter>150</LowPassFilter>\n"
        f"{leads}</Waveform>\n"
    )


def _lead(name: str, data: bytes) -> str:
    text = "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 76))
    return (
        f"<LeadData><LeadByteCountTotal>{len(data)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
        f"<LeadSampleCountTotal>{len(data) // 2}</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>{UV_PER_BIT}</LeadAmplitudeUnitsPerBit>"
        "<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadHighLimit>32767</LeadHighLimit>"
        f"<LeadLowLimit>-32768</LeadLowLimit><LeadID>{name}</LeadID><LeadOffsetFirstSample>0</LeadOffsetFirstSample>"
        "<FirstSampleBaseline>0</FirstSampleBaseline><LeadSampleSize>2</LeadSampleSize><LeadOff>FALSE</LeadOff>"
        f"<BaselineSway>FALSE</BaselineSway><LeadDataCRC32>{zlib.crc32(data)}</LeadDataCRC32>"
        f"<WaveFormData>\n{text}\n</WaveFormData></LeadData>\n"
    )
