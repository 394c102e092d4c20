"""How alike the layers of a model are: CKA of its blocks' outputs on the same records, computed once per checkpoint."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ecgscale.data.corpus import Corpus
from ecgscale.evaluation.cka import similarity
from ecgscale.evaluation.features import stored
from ecgscale.evaluation.layers import outputs
from ecgscale.lab import Lab
from ecgscale.loader import Loader, Rows
from ecgscale.runs import RunResult, load_backbone
from ecgscale.spec import digest
from ecgscale.study.plan import PlannedRun
from ecgscale.study.work import chosen_steps, write_array

RECORDS = 128  # one at a time


def layered(lab: Lab, planned: PlannedRun, corpus: Corpus, rows: Rows) -> npt.NDArray[np.float64] | None:
    """Return the CKA of every pair of layers [layer, layer], the input of the first block first; None of a checkpoint
    that is not in the lab.

    Args:
        lab: Where checkpoints are, and what was computed before.
        planned: Whose checkpoint; the one that enters the laws.
        corpus: Where the records are.
        rows: Which.
    """
    result = lab.result(planned.run.uid)
    if result is None:
        return None
    step = next(iter(chosen_steps(planned.run, RunResult.parse(result)).values()))
    file = lab.features(planned.run.uid, str(step), corpus.digest, digest(rows.tolist()), "layers")
    values = stored(file)
    if values is None:
        try:
            backbone = load_backbone(planned.run, lab.run(planned.run.uid), step)
        except OSError:
            return None
        values = similarity(outputs(backbone, Loader(corpus, rows).sweep(1)))
        write_array(file, values)
    return values
