"""Many files heard with the same settings, and what their results depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audiorep.audio import decode
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import EventConfig
from audiorep.predict.results import Detection, Failure, Recording, View
from audiorep.runtimes import fingerprint


@dataclass(frozen=True)
class Batch:
    """Files, a model, and which labels are told of each."""

    classifier: Classifier
    model: Path
    """Where it was opened from."""
    files: Sequence[Path]
    channel: str = "mean"
    """A key of `channels.CHOICES`; with `each`, a file has a result for each channel."""
    view: View = "auto"
    top: int | None = None
    threshold: float | None = None
    events: EventConfig | None = None
    """In place of the view."""
    precision: str = "fp32"
    """Of the arithmetic."""

    def hear(
        self, files: Sequence[Path], on_progress: Callable[[float], None] | None = None
    ) -> Iterator[tuple[Recording | Failure, list[Detection]]]:
        """The results of some of the files, in order, with their labels (see `Classifier.files`)."""
        for result in self.classifier.files(decode.channel_stretches(files, self.channel), on_progress):
            yield result, [] if isinstance(result, Failure) else self.detections(result)

    def detections(self, recording: Recording) -> list[Detection]:
        """The labels that are told of a recording."""
        if self.events is not None:
            return recording.events(self.events)
        return recording.view(self.view, self.top, self.threshold)

    def run(self) -> dict[str, Any]:
        """What the results depend on, besides the files: the model, by its content, and the settings."""
        info = self.classifier.info
        return {
            "model": fingerprint(self.model),
            "window": info.window_seconds,
            "hop": info.hop_seconds,
            "precision": self.precision,
            "unknown": info.unknown,
            "channel": self.channel,
            "view": self.view,
            "top": self.top,
            "threshold": self.threshold,
            "events": None if self.events is None else asdict(self.events),
        }
