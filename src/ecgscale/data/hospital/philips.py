"""Writes Philips XML (`restingecgdata` 1.04, also called Sierra XML) without compression.

Element names as in the files described by https://github.com/sixlettervariables/sierra-ecg-tools (MIT). The compressed
form, XLI, is read as well; see the tests.
"""

from __future__ import annotations

import base64
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from ecgscale.data.hospital import Ecg

UV_PER_BIT = 5


def write(path: Path, ecg: Ecg, encoding: str = "utf-8") -> None:
    """Write an ECG with `UV_PER_BIT`, all leads one after another in one base64 text; carts write UTF-8 or UTF-16."""
    counts = np.rint(ecg.signal * 1000 / UV_PER_BIT).astype("<i2")
    waveforms(path, ecg, base64.b64encode(counts.tobytes()).decode(), encoding=encoding)


def waveforms(path: Path, ecg: Ecg, data: str, compression: str = "", encoding: str = "utf-8") -> None:
    """Write the document around the text of `parsedwaveforms`, whose `compression` is none or "XLI"."""
    rate, samples = f"{ecg.rate_hz:.0f}", ecg.signal.shape[1]
    statements = "".join(
        f"<statement><statementcode>S{i}</statementcode><leftstatement>{escape(text)}</leftstatement>"
        "<rightstatement/></statement>"
        for i, text in enumerate(ecg.statements)
    )
    age = "" if ecg.age is None else f"<age><years>{ecg.age:.0f}</years></age>"
    sex = {"F": "Female", "M": "Male"}.get(ecg.sex or "", "Unknown")
    compressed = f'compression="{compression}" ' if compression else ""
    text = (
        f'<?xml version="1.0" encoding="{encoding.upper()}"?>\n'
        '<restingecgdata xmlns="http://www3.medical.philips.com" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
        "<documentinfo><documentname>sample.xml</documentname><documenttype>PhilipsECG</documenttype>"
        "<documentversion>1.04</documentversion></documentinfo>\n"
        '<dataacquisition date="2023-06-15" time="10:30:00"><machine machineid="1">PageWriter</machine>'
        f"<signalcharacteristics><samplingrate>{rate}</samplingrate><resolution>{UV_PER_BIT}</resolution>"
        "<signaloffset>0</signaloffset><signalsigned>True</signalsigned>"
        f"<numberchannelsallocated>{len(ecg.leads)}</numberchannelsallocated>"
        "<acquisitiontype>STD-12</acquisitiontype></signalcharacteristics></dataacquisition>\n"
        f"<patient><generalpatientdata><patientid>{escape(ecg.patient)}</patientid><name><lastname>Doe</lastname>"
        f"<firstname>Jane</firstname></name>{age}<sex>{sex}</sex></generalpatientdata></patient>\n"
        f"<interpretations><interpretation>{statements}</interpretation></interpretations>\n"
        f'<waveforms><parsedwaveforms dataencoding="Base64" {compressed}numberofleads="{len(ecg.leads)}" '
        f'leadlabels="{" ".join(ecg.leads)}" samplespersecond="{rate}" resolution="{UV_PER_BIT}" signalsigned="True" '
        f'durationperchannel="{1000 * samples / ecg.rate_hz:.0f}">\n{data}\n</parsedwaveforms></waveforms>\n'
        "</restingecgdata>\n"
    )
    path.write_bytes(text.encode(encoding))
