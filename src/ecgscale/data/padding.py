"""Where the zeros that fill up a short record begin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def ends(signal: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return how many samples of each record [record, lead, time] there are up to the last that is not 0 in all leads.

    Only records that end in zeros cost more than a glance; one that is 0 throughout has the end 0.
    """
    found = np.full(len(signal), signal.shape[-1])
    for row in np.flatnonzero(~signal[:, :, -1].any(axis=1)).tolist():
        found[row] = (signal[row] != 0).any(axis=0).tobytes().rfind(1) + 1
    return found
