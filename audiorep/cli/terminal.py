"""Prints results and tables, shows progress, and writes messages to the error stream."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep.escape import visible

if TYPE_CHECKING:  # each function imports what it needs, so that the command line starts fast
    from audiorep.benchmark.api import Comparison
    from audiorep.datasets.api import Checked
    from audiorep.evaluation.calibrate import CalibratedHead, Calibration
    from audiorep.evaluation.evaluate import Evaluation
    from audiorep.evaluation.tune_events import EventTuning, Measured
    from audiorep.predict.results import Detection, Failure, Recording

MAX_LISTED = 10  # problems of each kind
UNFOLDED_WIDTH = 10_000  # columns of a table that goes to a file or another program


def show(result: Recording | Failure, detections: Sequence[Detection], as_json: bool, several: bool) -> None:
    """Prints the result of one file."""
    from audiorep.predict.output import as_dict
    from audiorep.predict.results import Failure

    if isinstance(result, Failure):
        say(f"Error: {result.error}")
    else:
        for note in result.notes:
            say(f"Note: {note} --channel chooses.")
    if as_json:
        print(json.dumps(as_dict(result, detections), ensure_ascii=False), flush=True)
    elif not isinstance(result, Failure):
        _print_result(result, detections, several)


def _print_result(recording: Recording, detections: Sequence[Detection], several: bool) -> None:
    whole = len(detections) > 0 and all(d.start == 0 and d.end == recording.seconds for d in detections)
    if whole or not detections:
        labels = ", ".join(f"{visible(d.label)} {d.score:.0%}" for d in detections) or "nothing above the threshold"
        print(f"{visible(recording.title)}: {labels}" if several else labels, flush=True)
        return
    print(f"{visible(recording.title)} ({clock(recording.seconds)}{'' if recording.complete else ', stopped there'})")
    for d in detections:
        print(f"  {clock(d.start)} – {clock(d.end)}  {visible(d.label)} {d.score:.0%}", flush=True)


def clock(seconds: float) -> str:
    """A time such as `2:00.0` or `1:00:00.0`; it is rounded before it is split, so that it never shows 60 seconds."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"


def show_evaluation(evaluation: Evaluation, every_class: bool = False) -> None:
    """Prints the metrics of each head, and with `every_class` those of each class, lowest recall first."""
    from audiorep.evaluation.metrics import in_words

    print(visible(evaluation.title))
    if evaluation.joint:
        print(f"  all heads at once: {in_words(evaluation.joint)}")
    for head, card in evaluation.heads.items():
        title = f"  {head}: " if len(evaluation.heads) > 1 else "  "
        print(title + in_words(card.summary))
        if head in evaluation.reliability:
            print(f"  {evaluation.reliability[head].in_words}")
        if every_class:
            cells = [
                [r.label, str(r.clips), f"{r.recall:.0%}", f"{r.precision:.0%}", f"{r.average_precision:.3f}", r.mistaken_for]
                for r in sorted(card.classes, key=lambda r: r.recall)
            ]
            show_table(["class", "clips", "recall", "precision", "AP", "mistaken most for"], cells, right={1, 2, 3, 4})
    if (found := evaluation.rejection) is not None:
        print(
            f"  {found.sounds} sounds of no class: AUROC {found.auroc:.3f}, {found.rejected:.1%} of them unknown or not "
            f"reported, and {found.lost:.1%} of the clips above"
        )


def show_calibration(calibration: Calibration) -> None:
    """Prints what the calibration of each head is, and what it gives on clips that it was not fitted on."""
    from audiorep.evaluation.calibrate import PARTS

    print(f"{visible(calibration.split)} ({calibration.clips} clips)")
    rows = []
    for head, found in calibration.heads.items():
        for kind, settings, of_files in (("window", found.window, False), ("file", found.file, True)):
            bias = f"{settings['bias']:+.2f}" if "bias" in settings else "-"
            rows.append([head, kind, f"{settings['temperature']:.2f}", bias, *(_effects(found) if of_files else [""] * 4)])
    header = ["head", "score of", "temperature", "bias", "error before", "after", "expected by chance", "at 90 % precision"]
    show_table(header, rows, right=set(range(2, 8)))
    for head, found in calibration.heads.items():
        rule = "best F1" if calibration.rule == "f1" else f"precision {calibration.wanted:g}"
        print(
            f"{head}: thresholds by {rule} from {min(found.thresholds):.2f} to {max(found.thresholds):.2f}, common "
            f"{found.common:.2f}; with them {found.answered:.0%} of the clips are answered, and {found.precision:.0%} of the "
            "labels are right"
        )
    print(f"Error, precision and shares are of clips that were not fitted on (cross-validation over {PARTS} parts).")


def _effects(found: CalibratedHead) -> list[str]:
    after = found.after
    return [
        f"{found.before.error:.3f}",
        f"{after.error:.3f} ({after.low:.3f} – {after.high:.3f})",
        f"{after.by_chance:.3f}",
        f"{found.before.answered:.0%} before, {after.answered:.0%} after",
    ]


def show_event_tuning(tuning: EventTuning) -> None:
    """Prints the settings that were chosen, and what the model's own and these give on other clips."""
    print(f"{visible(tuning.split)} ({tuning.clips} clips): {tuning.wish.in_words}")
    rows = [_event_row("model's own settings", tuning.before), _event_row("settings for the wish", tuning.after)]
    header = ["", "false alarms an hour", "precision", "recall", "F1 (200 ms)", "F1 (onsets)", "events", "there"]
    show_table(header, rows, right=set(range(1, 8)))
    own, config = len(tuning.settings.labels), tuning.settings
    print(
        f"Chosen: on {config.on:g}, confirm {config.confirm} of {config.of}, hang {config.hang_seconds:g} s; {own} "
        f"label{'' if own == 1 else 's'} with thresholds of their own."
    )
    print(f"Measured on {tuning.after.hours:g} h of soundscapes of clips by which nothing was chosen.")


def _event_row(title: str, measured: Measured) -> list[str]:
    counts = measured.all
    rate = f"{measured.false_alarms_an_hour:.1f} ({counts.false_alarms} in {measured.hours:g} h)"
    precision = "-" if counts.events == 0 else f"{counts.precision:.1%}"
    scores = [f"{counts.recall:.1%} ({counts.overlapping})", f"{counts.f1:.3f}", f"{counts.onset_f1:.3f}"]
    return [title, rate, precision, *scores, str(counts.events), str(counts.references)]


def show_folds(summary: dict[str, Any]) -> None:
    """Prints the mean and standard deviation of each metric over the folds, and its value in each fold."""
    for head, metrics in summary["heads"].items():
        for name, values in metrics.items():
            scale, unit = (1.0, "") if name == "d_prime" else (100.0, " %")
            each = ", ".join(f"{scale * value:.1f}" for value in values["folds"])
            mean = f"{scale * values['mean']:.1f}{unit} ± {scale * values['deviation']:.1f}"
            print(f"{head} {name.replace('_', ' ')}: {mean} over {len(values['folds'])} folds ({each})")


def show_problems(checked: Checked) -> None:
    """Prints the first problems of each kind, and a table with the number of each kind."""
    from audiorep.datasets.problems import KINDS

    problems = checked.problems
    counts = Counter(problem.kind for problem in problems)
    listed: Counter[str] = Counter()
    for problem in problems:
        listed[problem.kind] += 1
        if listed[problem.kind] <= MAX_LISTED:
            detail = problem.detail.removeprefix(problem.subject).strip()
            print(visible(f"{problem.kind}: {problem.subject}: {detail}"))
    if problems:
        print()
        show_table(
            ["problem", "count", "meaning"],
            [[kind, str(counts[kind]), text] for kind, text in KINDS.items() if counts[kind]],
            right={1},
        )
    hidden = sum(max(count - MAX_LISTED, 0) for count in counts.values())
    print(
        f"{checked.clips} clips, {len(problems)} problems"
        + (f"; {hidden} are not listed here; --output writes all" if hidden else "")
    )


def show_comparison(comparison: Comparison) -> None:
    """Prints the accuracy of two models on the same clips, and the difference between their scores."""
    first, difference = comparison.first, comparison.difference
    for failure in first.scored.failures:
        say(f"Left out: {failure.error}")
    print(f"{comparison.split}, {first.clips} clips")
    rows = [
        [model.name, f"{model.accuracy:.1%}", f"{model.low:.1%} – {model.high:.1%}"] for model in (first, comparison.second)
    ]
    show_table(["model", first.metric.replace("_", " "), "95 % interval"], rows, right={1, 2})
    print(
        f"change {100 * difference.change:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}), "
        f"same label {difference.agreement:.1%}, scores differ by {difference.mean:.1e}, at most {difference.largest:.1e}"
    )


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> None:
    """Prints a table; the columns in `right` are aligned right, and cells are folded if a terminal is too narrow."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for place, title in enumerate(header):
        table.add_column(Text(title), justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else UNFOLDED_WIDTH, color_system=None)
    with console.capture() as printed:
        console.print(table)
    print("\n".join(line.rstrip() for line in printed.get().splitlines()))


def typed_command() -> str:
    """The command as typed, without the folders of this machine."""
    words = [re.sub(r"(?<![\w.])/\S*/", "", word) for word in sys.argv[1:]]
    return shlex.join(["audiorep", *words])


def total_seconds(files: Sequence[Path]) -> float | None:
    """Seconds of sound in all files together, without unreadable ones; None if there is no progress bar to show."""
    if not sys.stderr.isatty():
        return None
    from audiorep import audio
    from audiorep.errors import AudioError

    total = 0.0
    for path in files:
        try:
            total += audio.probe(path).seconds
        except AudioError:
            continue
    return total


@contextmanager
def progress(title: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """A progress bar on the error stream, if that is a terminal; yields the function that advances it."""
    if not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    ]
    to_file = not sys.stdout.isatty()  # output for a file must not appear on the terminal
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=not to_file) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)


@contextmanager
def stop_message(sentence: str) -> Iterator[None]:
    """If the user stops the block, `sentence` is printed at the end; it says which results were saved."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(sentence)
        raise


def sounds_in(paths: Sequence[str]) -> list[Path]:
    """The sounds that a user named; those passed over are told."""
    from audiorep.audio import sources

    passed_over: list[Path] = []
    files = list(sources.find(paths, passed_over.append))
    if passed_over:
        say(visible(sources.describe_passed_over(passed_over)))
    return files


def say(text: str) -> None:
    """Prints a message on the error stream, so that the standard output holds only results."""
    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr, flush=True)
