"""Lead labels of hospital files, and the four limb leads that many carts leave out because two others give them."""

from __future__ import annotations

import re

import numpy as np

from ecgscale.data.hospital import Float, HospitalError
from ecgscale.data.signal import derive_limb_leads
from ecgscale.units import LEADS, lead_name

_PREFIX = re.compile(r"^(?:ecg|ekg)(?:-|[ _:]*)", re.IGNORECASE)


def standard(label: str) -> str | None:
    """Return the standard name of a label such as "ECG aVR" or "Lead II"; None where it is not one of the twelve.

    "-aVR" is the inverted lead of Cabrera's sequence and none of the twelve.
    """
    word = _PREFIX.sub("", label.strip())
    try:
        return None if word.startswith("-") else lead_name(word)
    except ValueError:
        return None


def by_name(labels: list[str]) -> dict[str, int]:
    """Return where each of the twelve leads stands; signals that are none of them (V7, X, Resp, SpO2) are left out.

    Raises:
        HospitalError: a lead stands there twice, under its name or with the suffix _2 that a reader gave it.
    """
    found: dict[str, int] = {}
    for i, label in enumerate(labels):
        again = re.fullmatch(r"(.+)_\d+", label.strip())
        name = standard(label) or (standard(again[1]) if again else None)
        if name is None:
            continue
        if name in found:
            raise HospitalError(f"lead {name} stands in the file twice; expected one signal per lead")
        found[name] = i
    return found


def complete(signal: Float, leads: tuple[str, ...]) -> tuple[Float, tuple[str, ...]]:
    """Add those of III, aVR, aVL and aVF that are absent, and put the leads into standard order.

    These four are defined by I and II (Einthoven: III = II - I; Goldberger: aVR = -(I + II)/2, aVL = I - II/2,
    aVF = II - I/2), and systems that store eight leads, GE MUSE for one, compute them so for display; nothing is added
    where I or II is absent.

    Args:
        signal: ECG [lead, time], any voltage.
        leads: Standard names of the rows.
    """
    live = np.ones((1, len(leads)), dtype=bool)
    full, names, _, _ = derive_limb_leads(signal[None], leads, live)
    order = [names.index(lead) for lead in LEADS if lead in names]
    return full[0, order], tuple(names[i] for i in order)
