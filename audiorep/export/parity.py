"""What an exported model must show before it is kept: the outputs of its checkpoint, on the same clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiorep.errors import BundleError
from audiorep.info import EMBEDDING
from audiorep.predict.agreement import Agreement, Scores, agreement, scores_of
from audiorep.runtimes import Session

if TYPE_CHECKING:
    from audiorep.models.checkpoint import Checkpoint

PARITY_LIMIT = 1e-4  # largest difference of a float32 score that an export may show
LIMITS = {"fp32": PARITY_LIMIT, "fp16": 0.01, "bf16": 0.05}
"""The same for each precision; those of fewer bits are judged by their labels."""
EMBEDDING_LIMITS = {"fp32": 1e-3, "fp16": 0.01, "bf16": 0.05}
"""Of its embedding, as a share. Bands 70 dB below the loudest carry float32's rounding of a long sum, which a pure tone's
embedding shows more than its scores do."""
AGREEMENT_LIMIT = 0.9  # share of clips on which a model of fewer bits must keep its checkpoint's label
EMBEDDING_LIMIT = 0.5  # share by which the embedding of such a model may differ: a cosine of about 0.9


@dataclass(frozen=True)
class Parity(Agreement):
    """How far an exported model's outputs are from its checkpoint's, on the same clips."""

    embedding: float
    """The embedding's root mean square difference, over the root mean square of the checkpoint's."""

    def refusal(self, precision: str = "fp32") -> str | None:
        """Why a model of that precision must not be kept, or None."""
        limit = LIMITS.get(precision)
        if limit is None and self.agreement < AGREEMENT_LIMIT:
            return f"its label is the checkpoint's on {self.agreement:.0%} of the clips; {AGREEMENT_LIMIT:.0%} is needed"
        if limit is not None and not self.largest <= limit:  # so that NaN fails too
            return f"its scores differ from the checkpoint's by up to {self.largest:.2g}; {limit:g} is allowed"
        limit = EMBEDDING_LIMITS.get(precision, EMBEDDING_LIMIT)
        if not self.embedding <= limit:
            return f"its embedding differs from the checkpoint's by {self.embedding:.2g} of its size; {limit:g} is allowed"
        return None


def compare(model: Checkpoint, session: Session, clips: Sequence[np.ndarray]) -> Parity:
    """The difference between a checkpoint as it was trained, in torch, and an exported model, on `clips` of (N,) each."""
    return _parity(_trained_outputs(model, clips), session, clips)


def _parity(expected: Scores, session: Session, clips: Sequence[np.ndarray]) -> Parity:
    found = scores_of(partial(session.run, outputs=list(expected)), clips)
    scores = {head: values for head, values in expected.items() if head != EMBEDDING}
    return Parity(**vars(agreement(scores, found)), embedding=_relative(expected[EMBEDDING], found[EMBEDDING]))


def _relative(expected: np.ndarray, found: np.ndarray) -> float:
    """The size of the difference over that of what was expected; 0 where both are zeros."""
    difference = float(np.linalg.norm(found - expected))
    return difference / float(np.linalg.norm(expected) or 1.0)


def _trained_outputs(model: Checkpoint, clips: Sequence[np.ndarray]) -> Scores:
    """The scores and the embedding of a checkpoint as it was trained, not merged."""
    import torch

    from audiorep.runtimes.torch import Pipeline

    trained = Pipeline(model.front_end, model.network, model.info).eval()

    def run(waveform: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {output: values.numpy() for output, values in trained(torch.from_numpy(waveform)).items()}

    return scores_of(run, clips)


def accept(model: Checkpoint, session: Session, clips: Sequence[np.ndarray], path: Path, precision: str = "fp32") -> Parity:
    """The parity of a model that is about to become `path`.

    Raises:
        BundleError: it is too far from its checkpoint.
    """
    return first_accepted(model, [session], clips, path, precision)


def first_accepted(
    model: Checkpoint, sessions: Iterable[Session], clips: Sequence[np.ndarray], path: Path, precision: str = "fp32"
) -> Parity:
    """The parity of the first of several attempts at `path` that is near enough; later ones are not even made.

    Raises:
        BundleError: all are too far from their checkpoint.
    """
    expected, refusal = _trained_outputs(model, clips), None
    for session in sessions:
        parity = _parity(expected, session, clips)
        refusal = parity.refusal(precision)
        if refusal is None:
            return parity
    raise BundleError(f"{path} was not written: {refusal}.")
