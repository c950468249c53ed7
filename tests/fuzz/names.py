"""Class names are data, never markup: they come out of every file and screen as they went in."""

from __future__ import annotations

import csv
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import markdown_it
import numpy as np

from audiorep.cli import terminal
from audiorep.escape import markdown, shell, visible
from audiorep.evaluation import pictures
from audiorep.evaluation.evaluate import Evaluation
from audiorep.evaluation.metrics import score
from audiorep.info.front_end import FRONT_ENDS
from audiorep.info.model_info import ModelInfo
from audiorep.models import Cost
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import LogMel
from audiorep.predict.output import AudacityFiles, CsvWriter, JsonLinesWriter, RavenFiles
from audiorep.predict.results import Detection, Recording
from audiorep.training.card import model_card
from fuzz import words
from fuzz.oracle import demand

BLANKS = "\t\n\r\u2028\u2029"


def prepare(folder: Path) -> None:
    """No seeds are needed."""


def warm(seeds: Path) -> None:
    """Nothing is waited for."""


def evaluations(chance: Random, seeds: Path, place: Path) -> None:
    """A model card as a reader of Markdown sees it, the table on a screen, and sometimes a picture."""
    labels = ["plain", *words.labels(chance, 8)]
    labels = list(dict.fromkeys(labels))
    info = _info(labels)
    targets = np.eye(len(labels), dtype=int)[np.arange(4 * len(labels)) % len(labels)]
    noise = np.random.default_rng(chance.randrange(1 << 30)).random(targets.shape)
    found = score((0.4 * targets + noise).astype(np.float32), targets, labels, False)
    title = f"test split of {words.file_name(chance)}"
    evaluation = Evaluation(title, len(targets), 0, [], {"label": found})
    evaluation.summary()
    network: Any = SimpleNamespace(embedding_size=64)  # the card looks at no weights
    model = Checkpoint(network, LogMel(FRONT_ENDS["speech_light"]), info, "arin_pico")
    _check_card(model_card(model, [evaluation], Cost(1, 1, 1), ""), labels)
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()):
        terminal.show_evaluation(evaluation, every_class=True)
        terminal.say(f"{title}\nx")
    demand(len(out.getvalue().split("\n")) == 4 + len(labels), out.getvalue())
    if chance.random() < 0.05:
        pictures.confusion(found, labels, f"{title}\ntop1", place / "c.png")


def predictions(chance: Random, seeds: Path, place: Path) -> None:
    """CSV, JSON lines, Audacity's and Raven's label files."""
    labels = words.labels(chance, 8)
    scores = {"label": np.ones((1, len(labels)))}
    recording = Recording(path=place / "a.wav", info=_info(labels or ["a"]), seconds=1.0, starts=np.zeros(1), scores=scores)
    found = [Detection(0.0, 1.0, "label", label, 0.5) for label in labels]
    for writer in (CsvWriter(place / "p.csv"), JsonLinesWriter(place / "p.jsonl")):
        writer.write(recording, found)
        writer.close()
    with (place / "p.csv").open(newline="", encoding="utf-8") as file:
        in_csv = [row["label"] for row in csv.DictReader(file) if row["label"] or labels]
    demand(in_csv == labels, f"{in_csv} was written of {labels}")
    in_json = [label["label"] for label in json.loads((place / "p.jsonl").read_text(encoding="utf-8"))["labels"]]
    demand(in_json == labels, f"{in_json} was written of {labels}")
    audacity, raven = AudacityFiles(place, place).text(recording, found), RavenFiles(place, place).text(recording, found)
    demand(len(audacity.split("\n")) == len(labels) + 1, audacity)
    demand(all(line.count("\t") == 8 for line in raven.split("\n")[:-1]), raven)


def texts(chance: Random, seeds: Path, place: Path) -> None:
    """A model's metadata, and what a person sees."""
    labels = words.labels(chance, 8) or ["a"]
    info = _info(labels)
    demand(ModelInfo.from_metadata(info.to_metadata(), Path("m")).labels == {"label": labels}, labels)
    for label in labels:
        demand(not set("\n\x1b") & set(visible(label)), f"{label!r} is {visible(label)!r}")
        demand(bool(shell(Path(label)) and markdown(label)), f"{label!r} is nothing")


def _info(labels: list[str]) -> ModelInfo:
    return ModelInfo("n", {"label": labels}, 8000, 1.0, 1.0, {"mels": 8, "window_ms": 25.0, "hop_ms": 10.0})


def _check_card(text: str, labels: list[str]) -> None:
    shown = {"".join(c if c in BLANKS else visible(c) for c in label) for label in labels}
    found = [row[0] for row in _rows(text)]
    demand(set(found) <= shown, f"{found} is shown of {shown}")
    demand(len(set(found)) == min(8, len(shown)), f"{found} is shown of {shown}")


def _rows(text: str) -> list[list[str]]:
    """The body of the tables in a Markdown text, as a reader sees it."""
    found: list[list[str]] = []
    body = False
    for token in markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        body = token.type == "tbody_open" or (body and token.type != "tbody_close")
        if body and token.type == "tr_open":
            found.append([])
        if body and token.type == "inline":
            children = token.children or []
            demand({child.type for child in children} <= {"text", "text_special", "softbreak"}, token.content)
            found[-1].append("".join("\n" if child.type == "softbreak" else child.content for child in children))
    return found
