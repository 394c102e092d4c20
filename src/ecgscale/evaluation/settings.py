"""How the protocols that descend on a network do it: settings with a revision of their own, of which a study may give
some.

Stated by arXiv:2605.12241's code, for fine-tuning and the frozen encoder alike: AdamW with weight decay on all that is
trained, constant rates, batches of 64, 100 epochs of which validation chooses one, fp32, no augmentation
(recipe-pretraining §7.1).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ecgscale.spec import Spec

Protocol = Literal["linear", "linear_adam", "frozen", "finetune"]  # exact; the papers' descent; attentive head; all


class Descent(Spec):
    """What both have in common."""

    revision: ClassVar[int] = 1

    epochs: PositiveInt = 100  # published; the one of lowest validation loss is kept (published: highest macro AUROC)
    batch: PositiveInt = 64  # records; published
    weight_decay: NonNegativeFloat = 1e-3  # published
    seed: NonNegativeInt = 0  # of the head's first values, the batches and dropout

    def dump(self) -> dict[str, Any]:
        """Return all fields with the revision."""
        return {"revision": self.revision, **super().dump()}


class Frozen(Descent):
    """The encoder stays; a head that attends to its tokens is trained."""

    rate: PositiveFloat = 1e-3  # published
    heads: PositiveInt = 16  # published; of a width it does not divide, the largest divisor below


class Finetune(Descent):
    """The encoder and a linear head on its pooled features are trained."""

    # learning rates of the head, of the encoder, and of its lower part: the stem where it has one; published
    rates: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1e-3, 1e-4, 1e-5)
    scratch: PositiveFloat = 1e-3  # of all of it where the encoder is untrained; published for training from scratch


Settings = Frozen | Finetune
KINDS: Final[dict[str, type[Frozen] | type[Finetune]]] = {"frozen": Frozen, "finetune": Finetune}


def settings_of(protocol: str, given: Any) -> Settings | None:
    """Return the settings of a protocol: those given over the defaults; None of a protocol that has none.

    Args:
        protocol: Its name.
        given: A table of a study, the settings themselves, or None.

    Raises:
        SpecError: a key or value is wrong.
        ValueError: the protocol has no settings, or those given are of another one.
    """
    kind = KINDS.get(protocol)
    if kind is None:
        if given is not None:
            raise ValueError(f'the protocol "{protocol}" has no settings; {" and ".join(KINDS)} have')
        return None
    if isinstance(given, Descent):
        if not isinstance(given, kind):
            raise ValueError(f'the protocol "{protocol}" takes {kind.__name__}, not {type(given).__name__}')
        return given
    return kind.parse(given or {})
