"""A network that was trained elsewhere: an architecture, its weights in a file, and what it must be given.

Weights are read with safetensors, or by `torch.load(weights_only=True)`, which runs no code of the file. Every key of
the architecture must be in the file in its shape, and nothing else: `prefix` and `ignore` say what of the file is the
encoder's. A corpus that is not what the network was trained on is refused (`refusal`), never converted on the way.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ecgscale.backbones import Backbone, BackboneSpec
from ecgscale.data.corpus import Corpus
from ecgscale.spec import Explained, part

Architecture = Annotated[Any, BeforeValidator(partial(part, "backbones")), PlainSerializer(lambda value: value.dump())]


class ExternalError(Explained, ValueError):
    """The weights cannot be used; the message says which file and why."""


class External(BackboneSpec):
    """A trained network behind an input contract. Its file is found again by content: where it lies enters no hash."""

    title: ClassVar[str] = "external checkpoint"

    comes_trained: ClassVar[bool] = True

    dial: float = Field(1.0, ge=1, le=1)  # its size is what it is
    label: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")  # what the table calls it
    file: Path = Field(exclude=True)  # .safetensors, or what torch.save wrote of a state dict
    sha256: str = Field(
        "", pattern=r"^([0-9a-f]{64})?$", validate_default=True
    )  # of the file; taken from it when empty
    architecture: Architecture  # a backbone, or the dotted path of a module with one
    within: str = ""  # key of the file under which the state dict lies, as "model"
    prefix: str = ""  # of the encoder's keys, taken away: "encoder."
    ignore: tuple[str, ...] = ()  # beginnings of keys that are not the encoder's, as "fc."
    rate_hz: PositiveFloat  # of the signals it was trained on
    samples: PositiveInt  # of a window
    leads: tuple[str, ...] = Field(min_length=1)  # in its order
    unit: Literal["mV", "z_record_lead"]
    band_hz: tuple[float, float] | None = None  # None: any

    @field_validator("sha256")
    @classmethod
    def _of_the_file(cls, value: str, info: ValidationInfo) -> str:
        """Take the hash from the file, and refuse another file than the one that is named."""
        file = info.data.get("file")
        if file is None:  # refused already
            return value
        found = sha256_of(file.expanduser())
        if value not in ("", found):
            raise ValueError(f"{file} has the SHA-256 {found}: it is another file")
        return found

    @property
    def called(self) -> str:
        """What the table calls it."""
        return self.label

    @property
    def is_causal(self) -> bool:
        """Whether the architecture is."""
        return bool(self.architecture.is_causal)

    def refusal(self, corpus: Corpus) -> str | None:
        """Return in which way a corpus is not what the network was trained on, or None."""
        pairs = {
            "rate_hz": (self.rate_hz, corpus.rate_hz),
            "samples": (self.samples, corpus.samples),
            "leads": (self.leads, tuple(corpus.leads)),
            "unit": (self.unit, corpus.unit),
        }
        if self.band_hz is not None:
            pairs["band_hz"] = (self.band_hz, corpus.form.band_hz)
        for key, (wanted, found) in pairs.items():
            if wanted != found:
                return f"{self.label} needs {key} = {wanted}, found {found}"
        return None

    def module(self, leads: int, samples: int) -> Backbone:
        """Return the network with its weights.

        Raises:
            ExternalError: the file cannot be read, has changed, or does not hold exactly this architecture's weights.
        """
        if (leads, samples) != (len(self.leads), self.samples):
            raise ExternalError(
                f"{self.label} takes {len(self.leads)} leads of {self.samples} samples, found {leads} of {samples}"
            )
        network: Backbone = self.architecture.module(leads, samples)
        if next(network.parameters()).device.type != "meta":  # only its size is asked for
            network.load_state_dict(self._weights(network.state_dict()))
        return network

    def _weights(self, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if sha256_of(self.file.expanduser()) != self.sha256:
            raise ExternalError(f"{self.file} is no longer the file whose SHA-256 is {self.sha256}")
        stored = _read(self.file.expanduser(), self.within)
        kept = {
            key.removeprefix(self.prefix): value
            for key, value in stored.items()
            if key.startswith(self.prefix) and not key.startswith(self.ignore)
        }
        optional = {key for key in expected if key.endswith("num_batches_tracked")}
        kept |= {key: expected[key] for key in optional - kept.keys()}
        for words, keys in (("lacks", expected.keys() - kept.keys()), ("has beyond it", kept.keys() - expected.keys())):
            if keys:
                more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
                raise ExternalError(
                    f"{self.file} does not hold the weights of {self.architecture.part_name()}: it {words} "
                    f"{', '.join(sorted(keys)[:3])}{more}; see `prefix` and `ignore`"
                )
        for key, value in kept.items():
            if value.shape != expected[key].shape:
                raise ExternalError(
                    f"{self.file}: {key} is {list(value.shape)}, {self.architecture.part_name()} needs "
                    f"{list(expected[key].shape)}; is the dial or the number of leads another?"
                )
        return kept


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read once while it does not change.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ValueError(f"the weights {path} cannot be read: {error.strerror}") from None
    return _sha256(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=32)
def _sha256(path: Path, time_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, within: str) -> dict[str, Tensor]:
    try:
        stored: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = next(iter(str(error).splitlines()), "it is torn")
        raise ExternalError(f"{path} holds no weights that can be read without running its code: {reason}") from None
    for key in filter(None, within.split(".")):
        if not isinstance(stored, Mapping) or key not in stored:
            raise ExternalError(f'{path} has no "{key}": correct `within`')
        stored = stored[key]
    if not isinstance(stored, Mapping) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise ExternalError(f"{path} is not a state dict (name → tensor): set `within` to the key under which it lies")
    return dict(stored)
