"""What an exported model must show before it is kept: the same scores as its checkpoint, on the same clips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiorep.errors import BundleError
from audiorep.predict.agreement import Agreement, Scores, agreement, scores_of
from audiorep.runtimes import Session

if TYPE_CHECKING:
    from audiorep.models.checkpoint import Checkpoint

PARITY_LIMIT = 1e-4  # largest difference of a float32 score that an export may show
LIMITS = {"fp32": PARITY_LIMIT, "fp16": 0.01, "bf16": 0.05}
"""The same for each precision; those of fewer bits are judged by their labels."""
AGREEMENT_LIMIT = 0.9  # share of clips on which a model of fewer bits must keep its checkpoint's label


class Parity(Agreement):
    """How far an exported model's scores are from its checkpoint's, on the same clips."""

    def refusal(self, precision: str = "fp32") -> str | None:
        """Why a model of that precision must not be kept, or None."""
        if precision not in LIMITS:
            if self.agreement >= AGREEMENT_LIMIT:
                return None
            return f"its label is the checkpoint's on {self.agreement:.0%} of the clips; {AGREEMENT_LIMIT:.0%} is needed"
        limit = LIMITS[precision]
        if self.largest <= limit:  # NaN fails too
            return None
        return f"its scores differ from the checkpoint's by up to {self.largest:.2g}; {limit:g} is allowed"


def compare(model: Checkpoint, session: Session, clips: Sequence[np.ndarray]) -> Parity:
    """The difference between a checkpoint as it was trained, in torch, and an exported model, on `clips` of (N,) each."""
    return _parity(_trained_scores(model, clips), session, clips)


def _parity(expected: Scores, session: Session, clips: Sequence[np.ndarray]) -> Parity:
    return Parity(**vars(agreement(expected, scores_of(session, clips))))


def _trained_scores(model: Checkpoint, clips: Sequence[np.ndarray]) -> Scores:
    """The scores of a checkpoint as it was trained, not merged."""
    import torch

    from audiorep.runtimes.torch import Pipeline

    trained = Pipeline(model.front_end, model.network, model.info).eval()

    def run(waveform: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {head: values.numpy() for head, values in trained(torch.from_numpy(waveform)).items()}

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
    expected, refusal = _trained_scores(model, clips), None
    for session in sessions:
        parity = _parity(expected, session, clips)
        refusal = parity.refusal(precision)
        if refusal is None:
            return parity
    raise BundleError(f"{path} was not written: {refusal}.")
