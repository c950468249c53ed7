"""What a search leaves: every trial, those that none beats in both ends as recipes, and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep.benchmark.environment import environment
from audiorep.errors import require
from audiorep.evaluation import pictures
from audiorep.files import open_text, replacing, write_json, write_text
from audiorep.search import cost as costs
from audiorep.search.study import SEARCH, settings, shown
from audiorep.search.trial import TRIALS, Job

if TYPE_CHECKING:  # an extra's, imported where it is used
    from optuna import Study
    from optuna.trial import FrozenTrial

TABLE, PICTURE, RECIPES = "trials.csv", "pareto.png", "best_*.toml"
STATES = {"COMPLETE": "complete", "PRUNED": "stopped", "RUNNING": "interrupted", "WAITING": "interrupted"}


@dataclass(frozen=True)
class Row:
    """What became of one trial."""

    number: int
    state: str
    """`complete`, `stopped` (refused, behind or diverged) or `interrupted`."""
    accuracy: float | None
    """On the validation clips, of a complete one."""
    cost: float | None
    """None where the settings are impossible."""
    chosen: dict[str, Any]
    """The value of each field that varies."""
    epochs: list[float]
    """The validation value after each, which trials are compared by: accuracy, or with several labels minus the loss."""
    seconds: float
    same_as: int | None
    """An earlier trial of the same settings, which was not trained again."""
    reason: str
    """Why it was stopped."""


@dataclass(frozen=True)
class Outcome:
    """All trials of a search, and the best."""

    rows: list[Row]
    front: list[Row]
    """Those that no other beats in both accuracy and cost, cheapest first: the Pareto front."""
    objective: str
    metric: str


def outcome(job: Job, study: Study) -> Outcome:
    """The outcome of the study so far."""
    rows = [_row(job, trial) for trial in shown(study)]
    done = [row for row in rows if row.state == "complete" and row.same_as is None]
    multi_label = job.config({}).multi_label
    return Outcome(rows, pareto_front(done), job.rules.objective, "mean average precision" if multi_label else "top-1")


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Those with no other row that is at least as accurate and as cheap, and better in one; of equal ones the first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.cost, -(row.accuracy or 0.0), row.number)):
        if not front or (row.accuracy or 0.0) > (front[-1].accuracy or 0.0):
            front.append(row)
    return front


def write(job: Job, found: Outcome, command: str) -> list[Path]:
    """Writes table, record, picture and a recipe for each trial of the front into the folder; returns their paths."""
    folder = job.folder
    for path in folder.glob(RECIPES):
        path.unlink()
    with replacing(folder / TABLE) as partial, open_text(partial) as file:
        csv.writer(file).writerows(_table(job, found))
    names = [f"best_{place}.toml" for place in range(1, len(found.front) + 1)]
    for name, row in zip(names, found.front, strict=True):
        write_text(folder / name, _recipe(job, found, row))
    _write_record(job, found, names, command)
    written = [folder / TABLE, folder / SEARCH, *(folder / name for name in names)]
    if found.front:
        draw(found, folder / PICTURE)
        written.append(folder / PICTURE)
    return written


def draw(found: Outcome, path: Path) -> None:
    """The picture of all trials, with the Pareto front."""
    unit = costs.UNITS[found.objective]
    own = [row for row in found.rows if row.same_as is None and row.cost]
    done = [((row.cost or 0) * unit.scale, row.accuracy) for row in own if row.accuracy is not None]
    comparable = found.metric == "top-1"  # with several labels epochs are known by their loss
    stopped = [
        ((row.cost or 0) * unit.scale, max(row.epochs)) for row in own if row.accuracy is None and row.epochs and comparable
    ]
    front = [((row.cost or 0) * unit.scale, row.accuracy or 0.0, str(row.number)) for row in found.front]
    pictures.pareto(done, stopped, front, (unit.words, f"validation {found.metric}"), path)


def as_cells(found: Outcome) -> tuple[list[str], list[list[str]]]:
    """A header and a row for each trial of the front, for people."""
    fields = list(found.front[0].chosen) if found.front else []
    ends = [field.rpartition(".")[2] for field in fields]
    header = ["recipe", "trial", found.metric, costs.UNITS[found.objective].symbol]
    header += [end if ends.count(end) == 1 else field for end, field in zip(ends, fields, strict=True)]
    scale = costs.UNITS[found.objective].scale
    cells = [
        [f"best_{place}.toml", str(row.number), f"{row.accuracy:.1%}", f"{(row.cost or 0) * scale:.4g}", *_texts(row.chosen)]
        for place, row in enumerate(found.front, 1)
    ]
    return header, cells


def _texts(chosen: Mapping[str, Any]) -> list[str]:
    return [f"{v:.4g}" if isinstance(v, float) else v if isinstance(v, str) else json.dumps(v) for v in chosen.values()]


def _row(job: Job, trial: FrozenTrial) -> Row:
    state, attributes = STATES[trial.state.name], trial.user_attrs
    complete = state == "complete"
    return Row(
        number=trial.number,
        state=state,
        accuracy=trial.values[0] if complete else None,
        cost=attributes.get("cost"),
        chosen=job.space.chosen(trial.params) if trial.params.keys() == job.space.distributions().keys() else {},
        epochs=attributes.get("epochs", []),
        seconds=round(attributes.get("seconds", 0.0), 1),
        same_as=attributes.get("same_as"),
        reason="" if complete else attributes.get("reason", ""),
    )


def _table(job: Job, found: Outcome) -> list[list[Any]]:
    fields = [entry.field for entry in job.space.entries]
    header = ["trial", "state", found.metric, found.objective, "epochs", "seconds", "same_as", "on_front", *fields, "reason"]
    front = {row.number for row in found.front}
    rows = []
    for row in found.rows:
        values = [row.chosen.get(field, "") for field in fields]
        plain = [value if isinstance(value, str | int | float) else json.dumps(value) for value in values]
        about = [row.number, row.state, _cell(row.accuracy), _cell(row.cost), len(row.epochs), row.seconds, _cell(row.same_as)]
        rows.append([*about, row.number in front, *plain, row.reason])
    return [header, *rows]


def _cell(value: float | None) -> float | str:
    return "" if value is None else value


def _write_record(job: Job, found: Outcome, names: Sequence[str], command: str) -> None:
    about = environment()
    about["packages"]["optuna"] = require("optuna", extra="search").__version__
    best = [
        {"recipe": name, "checkpoint": f"{TRIALS}/{row.number}", **asdict(row)}
        for name, row in zip(names, found.front, strict=True)
    ]
    record = {
        "command": command,
        "settings": settings(job),
        "accuracy": f"{found.metric} on the {len(job.clips.valid)} validation clips"
        + (", drawn from those to train on" if job.clips.held_out else ""),
        "cost": costs.UNITS[found.objective].words,
        "environment": about,
        "best": best,
        "trials": [asdict(row) for row in found.rows],
    }
    write_json(job.folder / SEARCH, record)


def _recipe(job: Job, found: Outcome, row: Row) -> str:
    """What `audiorep train --recipe` takes: the recipe with the trial's settings, and its own number of epochs."""
    from tomlkit import dumps

    epochs = job.config(row.chosen).epochs
    price = costs.in_words(row.cost or 0.0, found.objective)
    reached = f"{found.metric} {row.accuracy:.1%} on the validation clips after {epochs} epochs"
    return f"# Trial {row.number} of a search: {reached}, {price}.\n" + dumps(job.space.settings(row.chosen))
