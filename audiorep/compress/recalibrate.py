"""The scores of a compressed model made probabilities again, where those of the model before it were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from audiorep.datasets import Example
from audiorep.errors import DataError
from audiorep.evaluation.calibrate import calibrate
from audiorep.evaluation.thresholds import RULES, Rule
from audiorep.export import described
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.untrusted import is_number

SPLIT = "validation clips"


def recalibrate(made: Path, before: ModelInfo, examples: Sequence[Example], say: Callable[[str], None]) -> None:
    """Fits the calibration of the model `made`, a file or a checkpoint, anew on the validation clips among `examples`.

    Thresholds follow the same rule as before. The calibration of `before` is kept, and said to be, where the clips do not
    suffice. A model that is not calibrated is left as it is.
    """
    if not before.calibration:
        return
    classifier = Classifier.load(made)
    valid = [example for example in examples if example.split == "valid"]
    rule, precision = _rule(before)
    try:
        info = calibrate(classifier, valid, SPLIT, rule, precision).info
        say(f"Calibrated anew on {len(valid)} {SPLIT}")
    except DataError as error:
        kept = {"calibrated": before.provenance["calibrated"]} if "calibrated" in before.provenance else {}
        info = replace(classifier.info, calibration=before.calibration, thresholds=before.thresholds).with_provenance(**kept)
        say(f"The calibration from before this step is kept, which may fit less well now. {error}")
    described.write(made, info, made)


def _rule(info: ModelInfo) -> tuple[Rule, float]:
    """How the thresholds of a model were chosen, as it says."""
    about = info.provenance.get("calibrated", {})
    rule, precision = about.get("thresholds"), about.get("precision")
    fine = is_number(precision) and 0 < precision < 1
    return (rule if rule in RULES else "f1"), (precision if fine else 0.9)
