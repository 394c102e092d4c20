"""A small vector that tells whether two signals are the same recording, whatever their rate, unit or filter.

Every lead's spectrum between 1 and 15 Hz over the first ten seconds, which any diagnostic band keeps and any usual
rate holds, is divided by its norm and projected on fixed random directions. The cosine of two fingerprints is near 1
for one recording stored twice and scatters around 0 for two recordings (Johnson and Lindenstrauss 1984: random
projections keep angles).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft

from ecgscale.rng import generator
from ecgscale.units import LEADS

REVISION = 1  # enters the digest of every corpus

SIZE = 64
SECONDS = 10.0
LOW_HZ, HIGH_HZ = 1.0, 15.0

Float = npt.NDArray[np.float32]


def fingerprints(signal: Float, leads: tuple[str, ...], rate_hz: float) -> npt.NDArray[np.int8]:
    """Return the fingerprint of each record.

    Args:
        signal: [record, lead, time], any unit.
        leads: Standard name of each lead; only leads I, II and V1 to V6 are used, the others follow from I and II.
        rate_hz: Samples per second, above 30.

    Returns:
        [record, 64] int8, scaled so that the norm is about 127.
    """
    used = [lead for lead in leads if lead in ("I", "II") or lead.startswith("V")]
    window = round(SECONDS * rate_hz)
    chosen = signal[:, [leads.index(lead) for lead in used], :window]
    spectrum = rfft(chosen, n=window, axis=-1)[..., round(LOW_HZ * SECONDS) : round(HIGH_HZ * SECONDS)]
    parts = np.ascontiguousarray(spectrum).view(np.float32)  # real and imaginary parts in turn
    parts /= np.maximum(np.sqrt(np.einsum("rlf,rlf->rl", parts, parts)), 1e-6)[..., None]
    directions = np.concatenate([_directions(lead, parts.shape[-1]) for lead in used])
    vector = parts.reshape(len(parts), -1) @ directions
    vector /= np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)
    return np.asarray(np.rint(vector * 127), dtype=np.int8)


def same(a: npt.NDArray[np.int8], b: npt.NDArray[np.int8], threshold: float = 0.85) -> npt.NDArray[np.int64]:
    """Return the pairs [pair, 2] of rows of `a` and `b` whose fingerprints have a cosine above `threshold`."""
    unit_b = _unit(b)
    pairs = [np.empty((0, 2), np.int64)]
    for start in range(0, len(a), 1024):
        i, j = np.nonzero(_unit(a[start : start + 1024]) @ unit_b.T > threshold)
        pairs.append(np.stack([i + start, j], axis=1))
    return np.concatenate(pairs)


def _unit(vectors: npt.NDArray[np.int8]) -> Float:
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), dtype=np.float32)


@cache
def _directions(lead: str, size: int) -> Float:
    drawn = generator(0, "fingerprint", LEADS.index(lead)).standard_normal((size, SIZE))
    return np.asarray(drawn, dtype=np.float32)
