"""Writes DICOM ECGs with pydicom: 12-lead ECG Waveform Storage (PS3.3 A.34.3, C.10.9; leads by PS3.16 CID 3001)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecgscale.data.hospital import Ecg

SENSITIVITY = 1.25  # units per count before the correction factor
CORRECTION = 2.0
BASELINE = 5.0  # units at count 0
_CODES = {
    "I": 1,
    "II": 2,
    "V1": 3,
    "V2": 4,
    "V3": 5,
    "V4": 6,
    "V5": 7,
    "V6": 8,
    "III": 61,
    "aVR": 62,
    "aVL": 63,
    "aVF": 64,
}


def write(path: Path, ecg: Ecg, unit: str = "uV") -> None:
    """Write an ECG as int16 with sensitivity, correction factor and baseline; `unit` is uV or mV."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage, generate_uid

    data = Dataset()
    data.SOPClassUID = TwelveLeadECGWaveformStorage
    data.SOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    data.Modality = "ECG"
    data.PatientID, data.PatientName = ecg.patient, "Doe^Jane"
    data.PatientSex = ecg.sex or "O"
    if ecg.age is not None:
        data.PatientAge = f"{ecg.age:03.0f}Y"
    data.AcquisitionDateTime = "20230615103000"
    data.WaveformSequence = [_group(ecg, unit)]
    data.WaveformAnnotationSequence = [_annotation(text) for text in ecg.statements]
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


def _group(ecg: Ecg, unit: str) -> Any:
    from pydicom.dataset import Dataset

    per_mv = {"uV": 1000.0, "mV": 1.0}[unit]
    scale = 1.0 if unit == "uV" else 1e-3  # the same resolution in either unit
    counts = np.rint((ecg.signal * per_mv - BASELINE * scale) / (SENSITIVITY * scale * CORRECTION)).astype("<i2")
    group = Dataset()
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = counts.shape
    group.SamplingFrequency = f"{ecg.rate_hz:g}"
    group.MultiplexGroupLabel = "RHYTHM"
    group.ChannelDefinitionSequence = [_channel(lead, unit, scale) for lead in ecg.leads]
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformData = np.ascontiguousarray(counts.T).tobytes()
    return group


def _channel(lead: str, unit: str, scale: float) -> Any:
    from pydicom.dataset import Dataset

    channel = Dataset()
    channel.ChannelSourceSequence = [_code(f"2:{_CODES[lead]}", "MDC", f"Lead {lead}")]
    channel.ChannelSensitivity = f"{SENSITIVITY * scale:g}"
    channel.ChannelSensitivityUnitsSequence = [_code(unit, "UCUM", {"uV": "microvolt", "mV": "millivolt"}[unit])]
    channel.ChannelSensitivityCorrectionFactor = f"{CORRECTION:g}"
    channel.ChannelBaseline = f"{BASELINE * scale:g}"
    channel.ChannelSampleSkew, channel.WaveformBitsStored = "0", 16
    return channel


def _code(value: str, scheme: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _annotation(text: str) -> Any:
    from pydicom.dataset import Dataset

    annotation = Dataset()
    annotation.UnformattedTextValue, annotation.ReferencedWaveformChannels = text, [1, 0]
    annotation.AnnotationGroupNumber = 1
    return annotation
