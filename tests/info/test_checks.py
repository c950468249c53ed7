"""What a stranger's model may claim: every field of its metadata is checked, whatever it holds, and refused in a sentence."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from support.info import make_info

from audiorep.errors import BundleError, ConfigError
from audiorep.info.front_end import FrontEndConfig
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.untrusted import MAX_DEPTH, brief, from_json

PATH = Path("stranger.onnx")
FIELDS = [name for name in asdict(make_info()) if name != "format_version"]


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def refusal(**changes: Any) -> str:
    """What a model that claims this is refused with: one sentence, not long, that can be printed."""
    with pytest.raises(BundleError) as caught:
        make_info(**changes)
    text = str(caught.value)
    assert len(text) < 2000
    assert "\n" not in text
    text.encode()
    return text


ANYTHING = [
    None, True, -1, 0.5, 10**400, 1e300, "", "\ud800", "\x1b[2J", "x" * 10**6, [], [[]], {}, {"a": None}, nested(500),
    {"label": "abc"}, {"label": [1]}, {"label": [None, "a", "b"]}, [1, 2], {"": []}, b"bytes", object, math.nan,
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: brief(value)[:30].encode("ascii", "replace").decode())
def test_no_value_of_any_field_is_a_traceback(field, value):
    try:
        made = make_info(**{field: value})
    except BundleError as error:
        text = str(error)
    else:
        assert json.loads(json.dumps(asdict(made))) == asdict(made)  # and can be written down
        assert made.window_samples >= 1
        return
    assert field.split("_")[0] in text
    assert len(text) < 2000


@pytest.mark.parametrize("rate", [0, -1, 999, 1_000_001, 10**9, 16_000.5, 16_000.0, True, "16000", None])
def test_a_rate_is_a_whole_number_from_a_thousand_to_a_million(rate):
    assert f"sample_rate is {rate!r}" in refusal(sample_rate=rate)


@pytest.mark.parametrize("rate", [1_000, 384_000, 1_000_000])
def test_rates_of_elephants_and_bats_are_allowed(rate):
    assert make_info(sample_rate=rate).sample_rate == rate


def test_model_and_front_end_hear_the_same_rate():
    text = refusal(sample_rate=16_000, front_end=asdict(FrontEndConfig(8000, 20, 10)))
    assert "8000 Hz" in text
    assert "16000 Hz" in text
    assert make_info(sample_rate=8000, front_end=asdict(FrontEndConfig(8000, 20, 10))).sample_rate == 8000


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_fft": 10**9}, "n_fft is 1000000000"),
        ({"n_fft": 2048.5}, "n_fft is 2048.5; a whole number is needed"),
        ({"mels": 10**9}, "mels is 1000000000"),
        ({"mels": True}, "mels is True; a whole number is needed"),
        ({"window_ms": 1e300}, "window_ms 1e+300"),
        ({"hop_ms": math.nan}, "hop_ms is nan; a number is needed"),
        ({"hop_ms": 1e-9}, "hop_ms 1e-09 gives 0 samples"),
        ({"window_ms": None}, "window_ms is None"),
    ],
)
def test_a_front_end_that_nothing_could_hold_is_refused(settings, text):
    assert text in refusal(sample_rate=16_000, front_end=settings)
    with pytest.raises(ConfigError):
        FrontEndConfig(**settings)


@pytest.mark.parametrize(
    ("window", "hop", "text"),
    [
        (1e-5, 1e-5, "no sample fits at 16000 Hz"),
        (1e-5, 5e-6, "1000 are allowed"),
        (1.0, 1e-9, "make 16000 windows of each second; 1000 are allowed: take a longer hop"),
        (1800.0, 0.1, "each moment would be heard 18000 times; 1000 are allowed"),
        (3601.0, 1.0, "the window at most 3600 s"),
        (math.inf, 1.0, "the window at most 3600 s"),
        (1.0, math.nan, "both must be positive"),
        (1.0, 0, "both must be positive"),
        (10**400, 1, "window_seconds is"),
        (True, True, "window_seconds is True"),
    ],
)
def test_windows_that_would_take_for_ever_are_refused(window, hop, text):
    assert text in refusal(window_seconds=window, hop_seconds=hop, sample_rate=16_000)


def test_a_window_has_a_bounded_number_of_samples():
    assert "200000000 are allowed" in refusal(window_seconds=3600, hop_seconds=3600, sample_rate=1_000_000)


def test_the_spectra_of_a_window_have_a_bounded_size():
    fine = asdict(FrontEndConfig(16_000, 40, 20, n_fft=640, mels=64))
    assert make_info(sample_rate=16_000, front_end=fine, window_seconds=3600, hop_seconds=3600).window_seconds == 3600
    text = refusal(sample_rate=16_000, front_end={**fine, "hop_ms": 0.1}, window_seconds=3600, hop_seconds=3600)
    # 0.1 ms are two samples here
    assert "28800000 frames of 640 bins are more than 200000000 together" in text


@pytest.mark.parametrize("views", [-1, 1001, 10**12, True, 2.0])
def test_views_are_bounded(views):
    assert "views is" in refusal(views=views)


@pytest.mark.parametrize("silence", [-0.1, 1.0, 10**400, math.nan, math.inf, True, "0.1", None])
def test_silence_is_a_level_below_full_scale(silence):
    assert "silence is" in refusal(silence=silence, unknown="unknown", activation="sigmoid")


def test_only_a_model_with_unknown_tells_silence():
    assert "silence is 0.001; 0 to below 1 is allowed, and 0 alone without unknown" in refusal(silence=0.001)


@pytest.mark.parametrize("size", [-1, 1_000_001, 10**400, 128.0, True, "128", None, [128], math.nan])
def test_the_size_of_an_embedding_is_a_whole_number(size):
    assert "embedding_size is" in refusal(embedding_size=size)


def test_outputs_are_the_heads_and_last_the_embedding():
    info = make_info(labels={"verb": ["a", "b"], "noun": ["c", "d", "e"]}, embedding_size=8)
    assert list(info.outputs.items()) == [("verb", 2), ("noun", 3), ("embedding", 8)]
    assert make_info().outputs == {"label": 3}


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"label": ["a", 1]}, "labels hold 1"),
        ({"label": ["a", " "]}, "labels hold ' '"),
        ({"label": ["a", "\ud83d"]}, r"labels hold '\ud83d'"),
        ({"label": ["a", "a"]}, "labels hold 'a' twice"),
        ({"label": ["x" * 1001]}, "at most 1000 characters"),
        ({"": ["a"]}, "the name [''] of a head"),
        ({"label": ["a"], "embedding": ["a"]}, "a head is called embedding"),
        ({"label": "abc"}, "a list of names for each head is needed"),
        ({f"h{i}": ["a"] for i in range(101)}, "100 heads"),
    ],
)
def test_labels_are_texts_that_can_be_told_apart(labels, text):
    assert text in refusal(labels=labels)


@pytest.mark.parametrize(
    "names",
    [["größe", "音", "a;b", '"', "=1+1", "$x$", "|", " b", "🎺", "b\nc", "\x1b[31m"], ["a"] + [f"{i}" for i in range(999)]],
)
def test_any_other_text_is_a_label(names):
    assert make_info(labels={"label": names}).labels["label"] == names


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1, True, "0.5", None, 10**400])
def test_thresholds_are_scores(value):
    assert "thresholds must be numbers" in refusal(thresholds={"label": [0.5, value, 0.5]})


@pytest.mark.parametrize(
    "provenance",
    [
        {"splits": 3}, {"seen": []}, {"teachers": {}}, {"teachers": [3]}, {"seen": {"bits": 10**12, "filter": "abc"}},
        {"seen": {"bits": "8", "filter": "abc"}}, {"teachers": [{"teachers": [{"seen": 1}]}]}, {"clips": None}, {1: 2},
        {"a": {1, 2}}, {"a": nested(MAX_DEPTH + 1)}, {"a": "\ud800"},
    ],
)  # fmt: skip
def test_provenance_has_the_form_in_which_it_is_read(provenance):
    assert "provenance" in refusal(provenance=provenance)


@pytest.mark.parametrize(("depth", "fine"), [(MAX_DEPTH - 5, True), (MAX_DEPTH + 5, False), (900, False), (100_000, False)])
def test_deeply_nested_json_is_a_sentence(depth, fine):
    metadata = {**make_info().to_metadata(), f"{PREFIX}provenance": '{"a": ' + "[" * depth + "]" * depth + "}"}
    if fine:
        assert ModelInfo.from_metadata(metadata, PATH).provenance
        return
    with pytest.raises(BundleError, match=r"stranger\.onnx.* audiorep\.provenance "):
        ModelInfo.from_metadata(metadata, PATH)


def test_a_number_of_thousands_of_digits_is_not_read(monkeypatch):
    with pytest.raises(ValueError, match="JSON"):
        from_json("9" * 5000)
    monkeypatch.setattr("audiorep.untrusted.LARGEST_JSON", 10)
    with pytest.raises(ValueError, match=r"11 .* 10 "):
        from_json('"123456789"')


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None, [1], 10**30])
def test_a_version_that_never_was_is_refused(version):
    metadata = {**make_info().to_metadata(), f"{PREFIX}format_version": json.dumps(version)}
    with pytest.raises(BundleError, match=r"stranger\.onnx"):
        ModelInfo.from_metadata(metadata, PATH)
