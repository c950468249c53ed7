"""Draws the pictures under `results/` again from the measurements that lie beside them: `python experiments/redraw.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.benchmark import table
from audiorep.compress import report
from audiorep.evaluation import pictures
from audiorep.evaluation.evaluate import Evaluation
from audiorep.evaluation.metrics import ClassRow, Scorecard
from audiorep.search import outcome

RESULTS = Path(__file__).parent.parent / "results"
CONFUSIONS = {
    "bundled/metrics.json": "bundled/confusion.png",
    "fsdd/fold_1.json": "fsdd/confusion.png",
    "words/scratch.json": "words/scratch_confusion.png",
    "words/tuned.json": "words/tuned_confusion.png",
}


def main() -> None:
    """Draws all pictures whose measurements are kept."""
    for record in sorted(RESULTS.glob("*.json")):
        if record.with_suffix(".png").exists():
            values = _read(record)
            table.draw([table.Row(**row) for row in values["rows"]], values["environment"], record.with_suffix(".png"))
    for record in sorted((RESULTS / "compress").glob("*.json")):
        if record.with_suffix(".png").exists():
            values = _read(record)
            report.draw([report.Row(**{"clips": values["clips"], **row}) for row in values["rows"]], record.with_suffix(".png"))
    draw_search(RESULTS / "search" / "words.json")
    for curves in RESULTS.glob("*/curves.png"):
        pictures.curves(curves.parent / "logs", curves)
    for scores, picture in CONFUSIONS.items():
        draw_confusion(RESULTS / scores, RESULTS / picture)


def draw_search(record: Path) -> None:
    """The trials of a search."""
    values = _read(record)
    rows = [outcome.Row(**row) for row in values["trials"]]
    done = [row for row in rows if row.state == "complete" and row.same_as is None]
    metric = values["accuracy"].partition(" on the ")[0]
    outcome.draw(
        outcome.Outcome(rows, outcome.pareto_front(done), values["settings"]["objective"], metric), record.with_suffix(".png")
    )


def draw_confusion(record: Path, picture: Path) -> None:
    """The confusion matrix of a trained network on its test clips."""
    values = _read(record)
    test = values.get("test", values)
    head = test["heads"]["label"]
    summary = {name: value for name, value in head.items() if isinstance(value, float)}
    card = Scorecard(summary, [ClassRow(**row) for row in head["classes"]], np.array(head["confusion"]))
    views = test.get("views", 0)
    Evaluation(test["split"], test["clips"], test["from_trained_recordings"], [], {"label": card}, views=views).draw(picture)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
