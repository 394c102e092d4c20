"""The loss no model can beat: the mean binary cross-entropy, in nats, of an oracle that knows every latent of an ECG.

For the six CODE labels the latents decide the truth, and what is left is the reader, with h the entropy of a coin: p
h(missed) + (1 - p) h(false alarm). `structural` and `female` shift six unit normals, and given these nothing else in
the waveform depends on them: all that can be known lies in the plane of the two shifts, over which E[h] is a
quadrature. A waveform shows the latents through noise, so every floor is a lower bound for a model that sees the
waveform.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]


def entropy(probability: Float) -> Float:
    """Return the entropy of a coin in nats; 0 at 0 and at 1."""
    p = np.clip(probability, 1e-300, 1.0)
    q = np.clip(1.0 - probability, 1e-300, 1.0)
    return np.asarray(-probability * np.log(p) - (1.0 - probability) * np.log(q))


def reader_floor(prevalence: float, missed: float, false_alarm: float) -> float:
    """Return the floor in nats where the truth is known and only the reader errs.

    Args:
        prevalence: True fraction of positives.
        missed: Fraction of true positives written as negative.
        false_alarm: Fraction of true negatives written as positive.
    """
    h = entropy(np.array([missed, false_alarm]))
    return float(prevalence * h[0] + (1.0 - prevalence) * h[1])


def gaussian_floor(
    prevalence: float, shift: Float, other_prevalence: float, other_shift: Float, missed: float, false_alarm: float
) -> float:
    """Return the floor in nats of a condition that shifts unit normals, beside another, unknown, that does too.

    Args:
        prevalence: True fraction with the condition.
        shift: [latent] its shift of the means, in standard deviations.
        other_prevalence: Fraction with the other condition, independent of the first.
        other_shift: [latent] the other's shift.
        missed: Fraction of true positives written as negative.
        false_alarm: Fraction of true negatives written as positive.
    """
    basis, _ = np.linalg.qr(np.stack([shift, other_shift], 1))  # all that the scores say lies in this plane
    ends = np.array([np.zeros(len(shift)), shift, other_shift, shift + other_shift]) @ basis
    step = 0.05
    axes = [np.arange(ends[:, i].min() - 7.0, ends[:, i].max() + 7.0, step) for i in range(2)]
    plane = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    density = np.zeros((2, *plane.shape[:2]))
    for here, other in product((0, 1), (0, 1)):
        weight = (prevalence if here else 1 - prevalence) * (other_prevalence if other else 1 - other_prevalence)
        mean = (here * shift + other * other_shift) @ basis
        density[here] += weight * np.exp(-0.5 * ((plane - mean) ** 2).sum(-1)) / (2 * np.pi)
    total = density.sum(0)
    posterior = density[1] / total
    written = posterior * (1 - missed) + (1 - posterior) * false_alarm
    return float((total * entropy(written)).sum() * step**2)
