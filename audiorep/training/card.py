"""What a training leaves for people and programs: a model card, metrics and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep.escape import code, markdown
from audiorep.evaluation import pictures
from audiorep.evaluation.evaluate import Evaluation
from audiorep.evaluation.metrics import in_words
from audiorep.files import write_json, write_text
from audiorep.models import checkpoint

if TYPE_CHECKING:
    from audiorep.models import Cost
    from audiorep.models.checkpoint import Checkpoint

OTHER_SOUNDS = "Scores are relative to the classes above: a sound of another kind still gets one of their names."
UNKNOWN_SOUNDS = (
    "A sound that is likelier to be of none of its classes than of any is reported as `unknown`. One that is unlike all those "
    "that it learned to reject may still get one of their names."
)
CURVES, CONFUSION, RELIABILITY = "curves.png", "confusion.png", "reliability.png"


def model_card(model: Checkpoint, evaluations: list[Evaluation], cost: Cost, attribution: str) -> str:
    """The checkpoint's `README.md`: what it is, what it was trained on, how well it does and where it fails."""
    info, front = model.info, model.info.front_end
    clips = info.provenance.get("clips", {})
    size = f"{cost.parameters:,} parameters in training form, {cost.macs / 1e6:,.1f} M multiply-accumulates a window"
    hearing = f"{front['mels']} mel bands, {front['window_ms']:g} ms window, {front['hop_ms']:g} ms hop"
    chosen = f"epoch that was best on {clips['valid']} others" if clips.get("valid") else "last epoch"
    rejected = _rejected(info.provenance.get("of_no_class", {}))
    sections = [
        f"# {markdown(info.name)}\n",
        f"Recognizes {_count(info.labels)} in {info.window_seconds:g} s windows of {info.sample_rate} Hz sound, {info.task}.\n",
        f"- Architecture: {code(model.architecture)}, {size}",
        f"- Front end: {hearing}",
        f"- Trained on {clips.get('train', '?')} clips{rejected}; weights of the {chosen}",
        *[f"- Distilled from {_teacher_text(teacher)}" for teacher in info.provenance.get("teachers", [])],
        f"- Made with audiorep {markdown(str(info.provenance.get('audiorep', '?')))}",
        f"- License of the weights: {markdown(info.license)}\n",
    ]
    sections += [_evaluation_text(evaluation) for evaluation in evaluations]
    if attribution:
        sections.append(f"## Data\n\n{attribution}\n")
    sections.append(
        "## Use\n\n```\naudiorep export . -o model.onnx\naudiorep predict sounds/ --model model.onnx\n```\n\n"
        f"{UNKNOWN_SOUNDS if info.unknown else OTHER_SOUNDS} Measure on your own recordings before relying on it.\n"
    )
    return "\n".join(sections)


def _rejected(sounds: dict[str, Any]) -> str:
    """The sounds of no class that training heard too, in words."""
    if not sounds:
        return ""
    drawn = ", and synthetic ones" if sounds.get("synthetic") else ""
    return f" and {sounds.get('clips', 0)} sounds of no class{drawn}"


def write(folder: Path, model: Checkpoint, evaluations: list[Evaluation], cost: Cost) -> None:
    """`metrics.json`, model card and pictures of a trained checkpoint, into its folder."""
    write_json(
        folder / checkpoint.METRICS, {e.split.removeprefix("random ").partition(" ")[0]: e.summary() for e in evaluations}
    )
    attribution = str(model.info.provenance.get("attribution", ""))
    write_text(folder / checkpoint.CARD, model_card(model, evaluations, cost, attribution))
    pictures.curves(folder / checkpoint.LOGS, folder / CURVES)
    for evaluation in evaluations[:1]:
        for head, card in evaluation.heads.items():
            name = CONFUSION if len(evaluation.heads) == 1 else CONFUSION.replace(".", f"_{head}.")
            pictures.confusion(card, model.info.labels[head], evaluation.title, folder / name)
        evaluation.draw_reliability(folder / RELIABILITY)


def _count(labels: dict[str, list[str]]) -> str:
    return " and ".join(
        f"{len(names)} classes" + (f" ({markdown(head)})" if len(labels) > 1 else "") for head, names in labels.items()
    )


def _teacher_text(teacher: dict[str, Any]) -> str:
    """A teacher's name, and what it reached on the first clips it was measured on."""
    for title, heads in teacher.get("measured", {}).items():
        numbers = "; ".join(in_words(dict(list(summary.items())[:2])) for summary in heads.values())
        return f"{code(teacher['name'])} ({numbers} on the {markdown(title)})"
    return code(teacher["name"])


def _evaluation_text(evaluation: Evaluation) -> str:
    lines = [f"## Measured on the {markdown(evaluation.title)}\n"]
    if evaluation.joint:
        lines.append(f"All heads at once: {in_words(evaluation.joint)}\n")
    for head, card in evaluation.heads.items():
        weak = sorted((row for row in card.classes if row.clips), key=lambda row: (row.recall, row.average_precision))[:8]
        lines.append(f"{code(head)}: {in_words(card.summary)}\n")
        if head in evaluation.reliability:
            lines.append(f"Scores: {evaluation.reliability[head].in_words}\n")
        lines.append("Weakest classes:\n\n| class | clips | recognized | mistaken most for |\n|---|---|---|---|")
        lines += [
            f"| {markdown(row.label)} | {row.clips} | {row.recall:.0%} | {markdown(row.mistaken_for) or '—'} |" for row in weak
        ]
    return "\n".join(lines) + "\n"
