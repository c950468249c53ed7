"""What a model's metadata may claim: the checks of `model_info.ModelInfo`, each with what is said where it fails."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from audiorep.errors import ConfigError
from audiorep.info.front_end import RATES, FrontEndConfig
from audiorep.untrusted import MAX_TEXT_CHARACTERS, brief, is_number, is_text, is_whole

LONGEST_WINDOW = 3600.0  # seconds; a longer one is a mistake, and would need its memory
MOST_SAMPLES = 200_000_000  # in a window: an hour at 48 kHz
MOST_WINDOWS = 1000  # for each second of sound
MOST_OVERLAP = 1000  # windows that hear the same moment
MOST_BINS = 200_000_000  # of a window's spectra: half a minute's work, and gigabytes
MOST_CLASSES = 100_000  # of a head
MOST_HEADS = 100
MOST_VIEWS = 1000
SPARSEST = 64  # bits of a memory of clips that a character stands for; half of them are set, so a full one has seven

Check = tuple[bool, str]
"""Whether all is well, and what to say if not."""


def windows(window: float, hop: float, sample_rate: int) -> list[Check]:
    """Whether the windows hear all of a recording in bearable time and memory."""
    told = f"window {window:g} s and hop {hop:g} s"
    if not 0 < hop <= window <= LONGEST_WINDOW:
        bounds = f"both must be positive, the hop at most the window, the window at most {LONGEST_WINDOW:g} s"
        return [(False, f"{told}: {bounds}")]
    if not RATES[0] <= sample_rate <= RATES[1]:
        return []  # which is told apart
    samples, step = round(window * sample_rate), max(1, round(hop * sample_rate))
    return [
        (samples > 1, f"{told}: no sample fits at {sample_rate} Hz; take a longer window"),
        (samples <= MOST_SAMPLES, f"{told} have {samples} samples at {brief(sample_rate)} Hz; {MOST_SAMPLES} are allowed"),
        (
            sample_rate <= MOST_WINDOWS * step,
            f"{told} make {sample_rate // step} windows of each second; {MOST_WINDOWS} are allowed: take a longer hop",
        ),
        (
            samples <= MOST_OVERLAP * step,
            f"{told}: each moment would be heard {samples // step} times; {MOST_OVERLAP} are allowed: take a longer hop",
        ),
    ]


def lists(value: object) -> bool:
    """Whether it is a list for each head."""
    return isinstance(value, dict) and all(isinstance(head, str) and isinstance(v, list | tuple) for head, v in value.items())


def labels(named: Mapping[str, Sequence[Any]]) -> list[Check]:
    """Whether heads and classes have names that can be told apart and written down."""
    sizes = {head: len(names) for head, names in named.items()}
    heads = [head for head in named if not is_text(head, blank=False)]
    odd = [(head, name) for head, names in named.items() for name in names if not is_text(name, blank=False)]
    twice = [
        (head, name)
        for head, names in named.items()
        for name, count in Counter(name for name in names if isinstance(name, str)).items()
        if count > 1
    ]
    needed = f"a text, not blank and at most {MAX_TEXT_CHARACTERS} characters long, is needed"
    return [
        (bool(sizes) and all(sizes.values()), f"labels {brief(sizes)} need at least one class a head"),
        (
            len(sizes) <= MOST_HEADS and max(sizes.values(), default=0) <= MOST_CLASSES,
            f"labels {brief(sizes)} are too many; {MOST_HEADS} heads of {MOST_CLASSES} classes are allowed",
        ),
        (not heads, f"the name {brief(heads[:1])} of a head: {needed}"),
        (not odd, f"labels hold {brief(odd[0][1]) if odd else ''}: {needed}"),
        (not twice, f"labels hold {brief(twice[0][1]) if twice else ''} twice; every class needs a name of its own"),
    ]


def thresholds(limits: Mapping[str, Sequence[Any]], named: Mapping[str, Sequence[Any]]) -> list[Check]:
    """Whether they are scores, one for each class of a head."""
    fine = all(
        len(values) == len(named.get(head, ())) and all(is_number(value) and 0 <= value <= 1 for value in values)
        for head, values in limits.items()
    )
    return [(fine, "thresholds must be numbers that match the labels, one a class, from 0 to 1")]


def front_end(settings: Mapping[str, Any], sample_rate: int, window: float) -> list[Check]:
    """Whether the front end can be made, and hears what the model does; what is left out has its default."""
    known = {f.name for f in dataclasses.fields(FrontEndConfig)}
    rate = settings.get("sample_rate", sample_rate)
    try:
        made = FrontEndConfig(**{key: value for key, value in settings.items() if key in known})
    except ConfigError as error:
        return [(False, str(error).rstrip("."))]
    frames = round(window * made.sample_rate) // made.hop if 0 < window <= LONGEST_WINDOW else 0
    return [
        (rate == sample_rate, f"its front end hears {rate} Hz and the model {brief(sample_rate)} Hz; they must be equal"),
        (
            not settings or frames * made.n_fft <= MOST_BINS,
            f"window {window:g} s: {frames} frames of {made.n_fft} bins are more than {MOST_BINS} together; take a shorter one",
        ),
    ]


def provenance(told: Mapping[str, Any]) -> list[Check]:
    """Whether what is read of it has the form in which it is written."""
    kinds = {"clips": dict, "splits": dict, "seen": dict, "teachers": list, "compressed": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(told.get(name, kind()), kind)]
    if wrong:
        return [(False, f"provenance.{wrong[0]} is {brief(told[wrong[0]])}; it is damaged")]
    teachers = told.get("teachers", [])
    seen = told.get("seen", {})
    bits, kept = seen.get("bits", 0), seen.get("filter", "")
    return [
        (all(isinstance(teacher, dict) for teacher in teachers), "provenance.teachers are not tables"),
        (
            is_whole(bits) and isinstance(kept, str) and 0 <= bits <= SPARSEST * (len(kept) + 64),
            "provenance.seen is damaged",  # it is unpacked to so many bits
        ),
        *(check for teacher in teachers if isinstance(teacher, dict) for check in provenance(teacher)),
    ]
