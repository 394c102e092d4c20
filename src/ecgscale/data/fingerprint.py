"""A short code that tells whether two signals are the same recording, whatever their rate, unit, gain or filter.

A lead's slope is compressed, so that P, T and noise count beside the QRS, and cut into pieces of 2.5 s; each piece is
projected on fixed random waves of 1 to 15 Hz, and the signs of the projections are kept. The share of bits in which
two codes differ is the angle between the pieces over π (Charikar 2002, doi:10.1145/509907.509965): about 0.01 for one
recording stored twice, about 0.5 for two recordings. Leads and pieces have bits of their own, so sets that share one
lead only, or the first seconds, are compared in what they share. The pieces lie at fixed times: of a copy that is late
by 4 ms all are found in 12 leads and two thirds in one; for copies that start later still there is `later`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from ecgscale.data import padding
from ecgscale.data.resampling import resample
from ecgscale.rng import generator
from ecgscale.units import LEADS

REVISION = 2  # enters the digest of every corpus

WORDS = ("I", "I", "II", "II", "V1", "V2", "V4", "V5")  # 32 bits each per piece: twice for what single-lead sets hold
PIECES, PIECE_S = 4, 2.5
SIZE = 4 * len(WORDS) * PIECES  # bytes

_RATE_HZ = 100.0
_PIECE = round(PIECE_S * _RATE_HZ)
_LOW_HZ, _HIGH_HZ = 1.0, 15.0
_COMPRESSED = 1.5  # slopes above this multiple of their mean count little more than it
_FILLED = 0.95  # of a piece; its weight fades to zero at both ends
_FLAT = 1e-6  # mean slope, mV or z-units per 30 ms
_STEP_S = 0.01  # between the starts that are tried; 5 ms off is near enough for 12 leads
_BLOCK = 32  # records whose slopes stay in the cache

_APART = 0.165  # share of bits two copies may differ in where all 32 words are there
_FEWER = 0.42  # … and its fall with the share of the words
_LEAST = 4  # words: one lead and 10 s, lead I or II and 5 s, all leads and 2.5 s (8)
_EXACT = 2**25  # pairs compared one by one; more are first sought by equal halves of words
_CANDIDATES = 2**16  # pairs held at once

Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Wide = npt.NDArray[np.uint64]


def fingerprints(signal: Float, leads: tuple[str, ...], rate_hz: float) -> Codes:
    """Return the code of each record.

    Args:
        signal: [record, lead, time], any unit; zeros at the end are no signal.
        leads: Standard name of each lead; leads I, II, V1, V2, V4 and V5 are used.
        rate_hz: Samples per second, above 30.

    Returns:
        [record, 128] uint8: 4 pieces of 8 words of 32 bits in the order of `WORDS`; a word is 0 where the lead is
        missing or flat, or the record too short.
    """
    codes = np.zeros((len(signal), PIECES, len(WORDS)), "<u4")
    pieces = min(PIECES, int(signal.shape[-1] / rate_hz / PIECE_S + 1 - _FILLED))
    used = [lead for lead in dict.fromkeys(WORDS) if lead in leads]
    if used and pieces:
        words = [place for lead in used for place, name in enumerate(WORDS) if name == lead]
        room = np.zeros((3, _BLOCK, len(used), pieces * _PIECE), np.float32)
        for start in range(0, len(signal), _BLOCK):
            block = signal[start : start + _BLOCK]
            slope, live = _slope(block, [leads.index(lead) for lead in used], rate_hz, room[:, : len(block)])
            live &= _filled(block, rate_hz, pieces)[:, None]
            codes[start : start + _BLOCK, :pieces, words] = _words(slope, live, used)
    return codes.reshape(len(signal), -1).view(np.uint8)


def later(signal: Float, leads: tuple[str, ...], rate_hz: float, seconds: float) -> Codes:
    """Return the codes of each record without its first 10 ms, 20 ms and so on up to `seconds`: [record, start, 128].

    Args:
        signal, leads, rate_hz: As for `fingerprints`.
        seconds: To be looked for; less than half of the record should be left out.
    """
    starts = np.unique(np.rint(np.arange(0.0, seconds + 1e-9, _STEP_S) * rate_hz).astype(int))[1:]
    codes = np.zeros((len(signal), len(starts), SIZE), np.uint8)
    for i, start in enumerate(starts):
        codes[:, i] = fingerprints(signal[..., start:], leads, rate_hz)
    return codes


def same(a: Codes, b: Codes) -> Int:
    """Return the pairs [pair, 2] of rows of `a` and `b` that hold the same recording, in rising order.

    Two codes agree if at most 16.5 % of their bits differ where all leads and 10 s are common, less where fewer are
    (16.5 % × share^0.42, at least 128 bits). In 5 × 10^9 pairs of unlike real ECGs (2,542, shifted against each other)
    none agree in 12 leads, lead I, V1 or V5 over 10 s, one in lead II, two in all leads over 2.5 s, and twelve in leads
    I and II over 2.5 s. Up to 2^25 pairs are compared one by one. Of more, those are compared that agree in one half
    word of 16 bits: with 12 leads this misses none to speak of, with one lead 1 in 10^5 copies that differ in 3 % of
    their bits and 1 in 100 at 8 %. Memory is four times that of the codes and a few megabytes.
    """
    words_a, words_b = (np.ascontiguousarray(codes).view("<u4") for codes in (a, b))
    common = np.flatnonzero(words_a.any(axis=0) & words_b.any(axis=0))
    words_a, words_b = _columns(words_a, common), _columns(words_b, common)
    pairs = (_all_pairs if len(a) * len(b) <= _EXACT else _likely_pairs)(words_a, words_b)
    found = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _slope(signal: Float, places: list[int], rate_hz: float, room: Float) -> tuple[Float, Bool]:
    """Return the compressed slope [record, lead, piece, time], and [record, lead, piece] whether there is any.

    The slope lies in `room` [3, record, lead, time], which is used again: fresh memory costs more than the sums.
    """
    x, size, slope = room
    if rate_hz != _RATE_HZ:
        signal, places = resample(signal[:, places], rate_hz, _RATE_HZ), list(range(len(places)))
    end = min(signal.shape[-1], x.shape[-1])
    for i, place in enumerate(places):
        x[:, i, :end] = signal[:, place, :end]
    row, pair, rise = (part.reshape(-1) for part in (x, size, slope))  # one long row takes a third of the time
    np.add(row[1:], row[:-1], out=pair[:-1])
    np.subtract(pair[3:-1], pair[:-4], out=rise[2:-2])
    slope[..., :2] = slope[..., end - 2 :] = 0.0  # where one lead meets the next
    np.abs(slope, out=size)
    slope, size = (part.reshape(-1, _PIECE) for part in (slope, size))
    mean = size @ np.full(_PIECE, 1 / _PIECE, np.float32)
    size += (mean * np.float32(_COMPRESSED) + np.float32(1e-12))[:, None]
    slope /= size
    return slope.reshape(*x.shape[:2], -1, _PIECE), (mean > _FLAT).reshape(*x.shape[:2], -1)


def _words(slope: Float, live: Bool, leads: list[str]) -> Words:
    """Return the words of the leads [record, piece, word]; 0 where there is no slope."""
    count = [WORDS.count(lead) for lead in leads]
    along = np.empty((slope.shape[2], len(slope), 32 * sum(count)), np.float32)
    for i, lead in enumerate(leads):
        bits = along[..., 32 * sum(count[:i]) : 32 * sum(count[: i + 1])]
        np.matmul(slope[:, i].swapaxes(0, 1), _waves(lead)[: len(along)], out=bits)
    words = np.packbits(along > 0, axis=-1, bitorder="little").view("<u4").swapaxes(0, 1)
    return np.where(np.repeat(live, count, axis=1).swapaxes(1, 2), np.maximum(words, 1), np.uint32(0))


def _filled(signal: Float, rate_hz: float, pieces: int) -> Bool:
    """Return [record, piece]: does the record reach the end of the piece?"""
    needed = (np.arange(pieces) + _FILLED) * PIECE_S * rate_hz
    return np.asarray(padding.ends(signal)[:, None] >= needed)


@cache
def _waves(lead: str) -> Float:
    """Return the random waves of a lead: [piece, time, bit]."""
    bits = 32 * WORDS.count(lead)
    hertz = np.arange(np.ceil(_LOW_HZ * PIECE_S), np.floor(_HIGH_HZ * PIECE_S) + 1) / PIECE_S
    angle = 2 * np.pi * hertz * np.arange(_PIECE)[:, None] / _RATE_HZ
    ramp = np.minimum(np.arange(_PIECE) + 0.5, _PIECE - 0.5 - np.arange(_PIECE)) / (_PIECE / 4)
    fade = np.sin(np.pi / 2 * np.minimum(ramp, 1)) ** 2
    basis = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * fade[:, None]
    drawn = generator(0, "fingerprint", LEADS.index(lead)).standard_normal((PIECES, basis.shape[1], bits))
    waves = basis @ drawn
    return np.asarray(waves - waves.mean(axis=1, keepdims=True), dtype=np.float32)


@cache
def _limits() -> Int:
    """Return how many bits two copies may differ in, by the number of words both have."""
    words = np.arange(PIECES * len(WORDS) + 1)
    limit = np.floor(_APART * (words / words[-1]) ** _FEWER * 32 * words).astype(np.int64)
    limit[:_LEAST] = -1
    return np.asarray(limit, dtype=np.int64)


def _columns(words: Words, common: Int) -> Words:
    """Return the words that stand in both sets, with one of zeros at the end if their number is odd."""
    out = np.zeros((len(words), len(common) + len(common) % 2), "<u4")
    out[:, : len(common)] = words[:, common]
    return out


def _all_pairs(a: Words, b: Words) -> Iterator[Int]:
    """Compare every row with every row: the product of codes written as ±1, and 0 where a word is missing."""
    for i in range(0, len(a), 1024):
        signs_a, there_a = _signs(a[i : i + 1024])
        for j in range(0, len(b), 1024):
            signs_b, there_b = _signs(b[j : j + 1024])
            words = (there_a @ there_b.T).astype(np.int64)
            apart = (32 * words - signs_a @ signs_b.T) / 2
            yield np.argwhere(apart <= _limits()[words]) + np.array([i, j])


def _signs(words: Words) -> tuple[Float, Float]:
    there = (words != 0).astype(np.float32)
    signs = np.unpackbits(words.view(np.uint8), axis=1).astype(np.float32) * 2 - 1
    return signs * np.repeat(there, 32, axis=1), there


def _likely_pairs(a: Words, b: Words) -> Iterator[Int]:
    """Compare rows that agree in at least one half word, one half word after the other."""
    chosen = np.unique(np.linspace(0, max(0, a.shape[1] // 2 - 1), 4).astype(int))[: a.shape[1] // 2]
    wide_a, wide_b = a.view("<u8"), b.view("<u8")
    columns = [(np.ascontiguousarray(wide_a[:, i]), np.ascontiguousarray(wide_b[:, i])) for i in chosen]
    halves_a, halves_b = a.view("<u2"), b.view("<u2")
    for half in range(halves_a.shape[1]):
        key_a, key_b = halves_a[:, half], halves_b[:, half]
        order = np.argsort(key_b, kind="stable")
        count = np.bincount(key_b, minlength=2**16)
        first = np.cumsum(count) - count
        count[0] = 0  # a missing word
        for rows in _portions(np.argsort(key_a, kind="stable"), count[key_a]):
            many = count[key_a[rows]]
            i = np.repeat(rows, many)
            j = order[np.arange(len(i)) + np.repeat(first[key_a[rows]] - np.cumsum(many) + many, many)]
            near = np.flatnonzero(_glance(columns, i, j))
            i, j = i[near], j[near]
            known = (halves_a[i, :half] == halves_b[j, :half]) & (halves_a[i, :half] != 0)
            good = _agree(a[i], b[j]) & ~known.any(axis=1)
            yield np.stack([i[good], j[good]], axis=1)


def _portions(rows: Int, many: Int) -> Iterator[Int]:
    """Yield those of the rows that have candidates, `many` by row, in portions of about `_CANDIDATES` of them."""
    rows = rows[many[rows] > 0]
    yield from np.split(rows, np.flatnonzero(np.diff(np.cumsum(many[rows]) // _CANDIDATES)) + 1)


def _glance(columns: list[tuple[Wide, Wide]], i: Int, j: Int) -> Bool:
    """Return which pairs are no farther apart than a third of the bits in a few columns: most are."""
    apart = np.zeros(len(i), np.uint16)
    for left, right in columns:
        x, y = left[i], right[j]
        apart += np.bitwise_count((x ^ y) * ((x != 0) & (y != 0)))
    return apart <= 64 * len(columns) // 3


def _agree(a: Words, b: Words) -> Bool:
    """Compare row by row: [pair] bool."""
    there = (a != 0) & (b != 0)
    apart = (np.bitwise_count(a ^ b) * there).sum(axis=1, dtype=np.int64)
    return np.asarray(apart <= _limits()[there.sum(axis=1)])
