"""Writes SCP-ECG (EN 1064, ISO 11073-91064): sections 0, 1, 3, 6 and 8, by choice Huffman-coded second differences."""

from __future__ import annotations

import binascii
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ecgscale.data.hospital import Ecg

NV_PER_COUNT = 2500  # amplitude value multiplier
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
_SECTIONS = 12  # 0 … 11 stand in the table of section 0, written or not


def write(path: Path, ecg: Ecg, huffman: bool = False) -> None:
    """Write an ECG as int16, or as second differences in the standard's own Huffman table (its number is 19999)."""
    bodies = {1: _about(ecg), 3: _leads(ecg), 6: _rhythm(ecg, huffman), 8: _statements(ecg)}
    if huffman:
        bodies[2] = struct.pack("<H", 19999)
    sections = {i: _section(i, body) for i, body in sorted(bodies.items())}
    at = 7 + 16 + 10 * _SECTIONS  # bytes are counted from 1, after the CRC and the size of the record
    table = struct.pack("<HII", 0, 16 + 10 * _SECTIONS, 7)
    for i in range(1, _SECTIONS):
        size = len(sections.get(i, b""))
        table += struct.pack("<HII", i, size, at if size else 0)
        at += size
    record = _section(0, table) + b"".join(sections.values())
    record = struct.pack("<I", len(record) + 6) + record
    path.write_bytes(struct.pack("<H", _crc(record)) + record)


def _section(number: int, body: bytes) -> bytes:
    body += b"\0" * (len(body) % 2)
    reserved = b"SCPECG" if number == 0 else b"\0" * 6
    head = struct.pack("<HIBB", number, 16 + len(body), 20, 20) + reserved
    return struct.pack("<H", _crc(head + body)) + head + body


def _crc(data: bytes) -> int:
    return binascii.crc_hqx(data, 0xFFFF)


def _about(ecg: Ecg) -> bytes:
    tags = {0: b"Doe\0", 1: b"Jane\0", 2: ecg.patient.encode("latin-1") + b"\0"}
    if ecg.age is not None:
        tags[4] = struct.pack("<HB", int(ecg.age), 1)
    tags[8] = bytes([{"M": 1, "F": 2}.get(ecg.sex or "", 0)])
    tags[14] = struct.pack("<HHHBB6sBBBBB", 0, 0, 0, 0, 255, b"cart", 20, 0xA0, 0, 0x80, 1) + b"\0" * 17 + b"\0" * 5
    tags[25] = struct.pack("<HBB", 2023, 6, 15)
    tags[26] = bytes([10, 30, 0])
    return b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in tags.items()) + b"\xff\0\0"


def _leads(ecg: Ecg) -> bytes:
    samples = ecg.signal.shape[1]
    flags = 0x04 | len(ecg.leads) << 3  # all leads at the same time
    return struct.pack("<BB", len(ecg.leads), flags & 0xFF) + b"".join(
        struct.pack("<IIB", 1, samples, _CODES[lead]) for lead in ecg.leads
    )


def _rhythm(ecg: Ecg, huffman: bool) -> bytes:
    counts = np.rint(ecg.signal * 1e6 / NV_PER_COUNT).astype(np.int64)
    if huffman:
        data = [_huffman(np.concatenate([row[:2], np.diff(row, 2)])) for row in counts]
    else:
        data = [row.astype("<i2").tobytes() for row in counts]
    head = struct.pack("<HHBB", NV_PER_COUNT, round(1e6 / ecg.rate_hz), 2 if huffman else 0, 0)
    return head + b"".join(struct.pack("<H", len(row)) for row in data) + b"".join(data)


def _huffman(values: npt.NDArray[np.int64]) -> bytes:
    """Code 0 as 0; ±1 … ±8 as so many ones, a zero and the sign; others as ten bits with 8 or 16 bits behind them."""
    small = {0: "0"} | {sign * n: "1" * n + "0" + ("1" if sign < 0 else "0") for n in range(1, 9) for sign in (1, -1)}
    text = "".join(
        small[v] if v in small else f"1111111110{v & 0xFF:08b}" if -128 <= v <= 127 else f"1111111111{v & 0xFFFF:016b}"
        for v in values.tolist()
    )
    text += "0" * (-len(text) % 16)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _statements(ecg: Ecg) -> bytes:
    body = struct.pack("<BHBBBBBB", 0, 2023, 6, 15, 10, 30, 0, len(ecg.statements))
    for i, text in enumerate(ecg.statements):
        value = text.encode("latin-1") + b"\0"
        body += struct.pack("<BH", i + 1, len(value)) + value
    return body
