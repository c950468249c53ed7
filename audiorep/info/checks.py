"""The checks of the values of `model_info.ModelInfo`, each with its error message."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from audiorep.errors import ConfigError
from audiorep.info import EMBEDDING
from audiorep.info.calibration import KINDS, MAX_BIAS, SETTINGS, TEMPERATURES
from audiorep.info.front_end import RATES, FrontEndConfig
from audiorep.untrusted import MAX_TEXT_CHARACTERS, brief, is_number, is_text, is_whole

MAX_WINDOW_SECONDS = 3600.0  # a longer window is a mistake, and would need its memory
MAX_WINDOW_SAMPLES = 200_000_000  # more than an hour at 48 kHz
MAX_WINDOWS = 1000  # that begin in one second of sound
MAX_OVERLAP = 1000  # windows that contain the same moment
MAX_WINDOW_BINS = 200_000_000  # in all spectra of a window; they take half a minute and gigabytes
MAX_CLASSES = 100_000  # in each head
MAX_HEADS = 100
MAX_EMBEDDING = 1_000_000  # values
MAX_VIEWS = 1000
MAX_BITS_PER_CHARACTER = 64  # of a Bloom filter in base 85; in a full filter half of the bits are set, and there are seven

CLIP_FILTERS = ("seen", "tested", "calibrated")
"""Entries of the provenance that know the clips a model was trained, tested and calibrated on (see `trained_clips`)."""

RESERVED = f"a head is called {EMBEDDING}, which is the name of another output; give it another name"

Check = tuple[bool, str]
"""Whether the check holds, and the message if it does not."""


def windows(window: float, hop: float, sample_rate: int) -> list[Check]:
    """Whether windows of this length and hop cover a whole recording within the limits on time and memory."""
    given = f"window {window:g} s and hop {hop:g} s"
    if not 0 < hop <= window <= MAX_WINDOW_SECONDS:
        bounds = f"both must be positive, the hop at most the window, the window at most {MAX_WINDOW_SECONDS:g} s"
        return [(False, f"{given}: {bounds}")]
    if not RATES[0] <= sample_rate <= RATES[1]:
        return []  # the check of the sample rate reports it
    samples, step = round(window * sample_rate), max(1, round(hop * sample_rate))
    return [
        (samples > 1, f"{given}: no sample fits at {sample_rate} Hz; take a longer window"),
        (
            samples <= MAX_WINDOW_SAMPLES,
            f"{given} have {samples} samples at {brief(sample_rate)} Hz; {MAX_WINDOW_SAMPLES} are allowed",
        ),
        (
            sample_rate <= MAX_WINDOWS * step,
            f"{given} make {sample_rate // step} windows of each second; {MAX_WINDOWS} are allowed: take a longer hop",
        ),
        (
            samples <= MAX_OVERLAP * step,
            f"{given}: each moment would be heard {samples // step} times; {MAX_OVERLAP} are allowed: take a longer hop",
        ),
    ]


def is_lists_by_head(value: object) -> bool:
    """Whether `value` is a mapping {head: list}."""
    return isinstance(value, dict) and all(isinstance(head, str) and isinstance(v, list | tuple) for head, v in value.items())


def labels(named: Mapping[str, Sequence[Any]]) -> list[Check]:
    """Whether the names of heads and classes are distinct texts that can be printed."""
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
        (bool(sizes) and all(sizes.values()), f"labels {brief(sizes)} need at least one class in each head"),
        (
            len(sizes) <= MAX_HEADS and max(sizes.values(), default=0) <= MAX_CLASSES,
            f"labels {brief(sizes)} are too many; {MAX_HEADS} heads of {MAX_CLASSES} classes are allowed",
        ),
        (not heads, f"the name {brief(heads[:1])} of a head: {needed}"),
        (EMBEDDING not in named, RESERVED),
        (not odd, f"labels hold {brief(odd[0][1]) if odd else ''}: {needed}"),
        (not twice, f"labels hold {brief(twice[0][1]) if twice else ''} twice; every class needs a name of its own"),
    ]


def thresholds(limits: Mapping[str, Sequence[Any]], named: Mapping[str, Sequence[Any]]) -> list[Check]:
    """Whether the thresholds are scores from 0 to 1, one for each class of a head."""
    fine = all(
        len(values) == len(named.get(head, ())) and all(is_number(value) and 0 <= value <= 1 for value in values)
        for head, values in limits.items()
    )
    return [(fine, "thresholds must be numbers from 0 to 1, one for each class in labels")]


def calibration(values: Mapping[str, Any], named: Mapping[str, Sequence[Any]]) -> list[Check]:
    """Whether each calibrated head has a temperature, and perhaps a bias, for its windows and its files."""
    lowest, highest = TEMPERATURES
    fine = all(
        head in named and isinstance(kinds, dict) and set(kinds) == set(KINDS) and all(map(_is_calibration, kinds.values()))
        for head, kinds in values.items()
    )
    return [
        (
            fine,
            f"calibration is {brief(values)}; for each head, window and file need a temperature from {lowest:g} to {highest:g} "
            f"and may have a bias of at most {MAX_BIAS:g} either way",
        )
    ]


def _is_calibration(settings: Any) -> bool:
    if not isinstance(settings, dict) or not {"temperature"} <= set(settings) <= set(SETTINGS):
        return False
    lowest, highest = TEMPERATURES
    numbers = all(map(is_number, settings.values()))
    return numbers and lowest <= settings["temperature"] <= highest and abs(settings.get("bias", 0.0)) <= MAX_BIAS


def front_end(settings: Mapping[str, Any], sample_rate: int, window: float) -> list[Check]:
    """Whether the front end can be built and has the model's sample rate; missing settings have their defaults."""
    known = {f.name for f in dataclasses.fields(FrontEndConfig)}
    rate = settings.get("sample_rate", sample_rate)
    try:
        config = FrontEndConfig(**{key: value for key, value in settings.items() if key in known})
    except ConfigError as error:
        return [(False, str(error).rstrip("."))]
    frames = round(window * config.sample_rate) // config.hop if 0 < window <= MAX_WINDOW_SECONDS else 0
    return [
        (rate == sample_rate, f"its front end takes {rate} Hz and the model {brief(sample_rate)} Hz; they must be equal"),
        (
            not settings or frames * config.n_fft <= MAX_WINDOW_BINS,
            f"window {window:g} s: {frames} frames of {config.n_fft} bins are more than {MAX_WINDOW_BINS} together; "
            "take a shorter window",
        ),
    ]


def provenance(values: Mapping[str, Any]) -> list[Check]:
    """Whether the entries of the provenance that audiorep reads have the types that it writes."""
    filters = dict.fromkeys(CLIP_FILTERS, dict)
    kinds = {"clips": dict, "splits": dict, "measured": dict, **filters, "teachers": list, "compressed": list}
    wrong = [name for name, kind in kinds.items() if not isinstance(values.get(name, kind()), kind)]
    if wrong:
        return [(False, f"provenance.{wrong[0]} is {brief(values[wrong[0]])}; it is damaged")]
    teachers = values.get("teachers", [])
    return [
        (all(isinstance(teacher, dict) for teacher in teachers), "provenance.teachers are not tables"),
        *((_is_filter(values.get(name, {})), f"provenance.{name} is damaged") for name in CLIP_FILTERS),
        *(check for teacher in teachers if isinstance(teacher, dict) for check in provenance(teacher)),
    ]


def _is_filter(found: Mapping[str, Any]) -> bool:
    """Whether a Bloom filter has the size that it claims: it is unpacked to that many bits."""
    bits, bloom_filter = found.get("bits", 0), found.get("filter", "")
    return is_whole(bits) and isinstance(bloom_filter, str) and 0 <= bits <= MAX_BITS_PER_CHARACTER * (len(bloom_filter) + 64)
