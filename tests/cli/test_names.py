"""Names are data: whatever characters they are of, they come out of every target as they went in."""

from __future__ import annotations

import csv
import html
import json
import re
import shlex
import tomllib
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import markdown_it
import numpy as np
import pytest
import tomlkit
from support import processes
from support.info import make_info
from support.markdown import cells

from audiorep.cli import terminal
from audiorep.datasets import Example, Splits
from audiorep.datasets.class_names import difference, is_text, look_alikes, normalized
from audiorep.datasets.example import split_examples, with_normalized_labels
from audiorep.datasets.problems import find_problems
from audiorep.escape import code, markdown, shell, visible
from audiorep.evaluation import pictures, plotting
from audiorep.evaluation.evaluate import Evaluation
from audiorep.evaluation.metrics import score
from audiorep.evaluation.scored import targets_of
from audiorep.predict.output import AudacityFiles, CsvWriter, JsonLinesWriter, RavenFiles
from audiorep.predict.results import Detection, Recording
from audiorep.training.card import model_card

LABELS = [
    "dog", "dog_bark", "_silence_", "__bold__", "*star*", "**", "$x^2$", "$", "\\$5 \\frac{1}{2}", "a|b", "\\|", "|", "`code`",
    "``", "<b>bold</b>", "<script>", "&amp;", "&#65;", "&", "[link](http://x.y)", "![x](y)", "[ ]", "[bold]red[/]", "[/]", "#1",
    "# title", "C#", "- item", "+1", "1. first", "> quote", "=1+1", "@SUM(A1)", "-2", "'quoted", '"', '""', 'say "hi"', "a,b",
    "a;b", "a\tb", "a\nb", "a\r\nb", "\x1b[31mred", "a\x7fb", "a\x07b", "a\x85b", "a\u2028b", "\u202edog", "größe", "音", "😀",
    "a\\", "\\n", "~~gone~~", "~", "{x}", "{0}", "%s", "%", "`rm -rf`", "$(id)", ":smile:", "http://x.y/z", "www.x.y", "a  b",
    "x" * 200, "é", "---", "***", "===", "<!-- c -->", "\\", "^2", "a^b_c", "__", "[x]: y", "| a | b |", "\\begin{x}", "NaN",
]  # fmt: skip


def shown(label: str) -> str:
    """As Markdown can show it: line ends and tabs too, but what no page shows by its code."""
    return "".join(c if c in "\t\n\r\u2028" else visible(c) for c in label)


@pytest.mark.parametrize("label", LABELS)
def test_name_in_a_table_of_markdown_reads_as_it_is(label):
    table = f"| a | b |\n|---|---|\n| {markdown(label)} | {markdown(label)} |\n"
    assert cells(table) == [[shown(label)] * 2]


@pytest.mark.parametrize("frame", ["# {}", "## Measured on the {} (3 clips)", "{}", "- {}", "- License: {}", "Kept: {}."])
def test_name_in_a_line_of_markdown_reads_as_it_is(frame):
    renderer = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for label in LABELS:
        parsed = renderer.parse(frame.format(markdown(label)))
        [inline] = [token for token in parsed if token.type == "inline"]
        assert "".join(child.content for child in inline.children or []) == re.sub("^[#-]+ ", "", frame).format(shown(label))
        assert {token.type.removesuffix("_open").removesuffix("_close") for token in parsed} <= {
            "heading", "paragraph", "bullet_list", "list_item", "inline",
        }  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_name_in_a_code_span_of_markdown_reads_as_it_is(label):
    rendered = markdown_it.MarkdownIt("commonmark").render(f"- of {code(label)} (x)")
    text = rendered.removeprefix("<ul>\n<li>of ").removesuffix(" (x)</li>\n</ul>\n")
    assert html.unescape(text.removeprefix("<code>").removesuffix("</code>")) == shown(label)


def test_plain_names_look_plain_in_markdown():
    assert [markdown(name) for name in ("dog", "dog_bark", "hand saw", "größe", "don't", "a-b", "1.5 s", "x (y)")] == [
        "dog", "dog_bark", "hand saw", "größe", "don't", "a-b", "1.5 s", "x (y)",
    ]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
def test_name_in_toml_is_read_as_it_is(label):
    assert tomllib.loads(tomlkit.dumps({"a": label, "t": {label: 1}})) == {"a": label, "t": {label: 1}}


@pytest.mark.parametrize("label", LABELS)
def test_path_in_a_command_is_one_argument(label):
    assert shlex.split(f"audiorep export {shell(Path(label))} -o x") == ["audiorep", "export", str(Path(label)), "-o", "x"]


@pytest.mark.parametrize("label", LABELS)
def test_name_for_people_is_one_printable_line_and_itself_where_it_can_be(label):
    shown = visible(label)
    assert len(shown.splitlines()) == 1
    assert not any(unicodedata.category(character) == "Cc" for character in shown)
    assert shown == label or json.loads(f'"{shown}"') == label


def test_lone_surrogates_and_joined_emoji_for_people():
    assert visible("caf\udce9") == "caf\\udce9"
    assert visible("👩‍🔬 a\u00a0b") == "👩‍🔬 a\u00a0b"


def recording(labels: list[str]) -> Recording:
    info = make_info(labels={"label": labels})
    scores = np.linspace(1, 0.5, len(labels), dtype=np.float32)[None]
    return Recording(path=Path("a.wav"), info=info, seconds=1.0, starts=np.array([0.0]), scores={"label": scores})


def test_every_name_survives_predictions_as_csv_and_json_lines(tmp_path):
    found = [Detection(0.0, 1.0, "label", label, 0.5) for label in LABELS]
    for writer in (CsvWriter(tmp_path / "p.csv"), JsonLinesWriter(tmp_path / "p.jsonl")):
        writer.write(recording(LABELS), found)
        writer.close()
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == LABELS
    [line] = (tmp_path / "p.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [label["label"] for label in json.loads(line)["labels"]] == LABELS


def test_every_name_is_one_cell_of_one_row_for_audacity_and_raven():
    found = [Detection(0.0, 1.0, "label", label, 0.5) for label in LABELS]
    audacity = AudacityFiles(Path(), Path()).text(recording(LABELS), found).split("\n")[:-1]
    assert [line.split("\t")[2].removesuffix(" 0.50") for line in audacity] == [visible(label) for label in LABELS]
    raven = RavenFiles(Path(), Path()).text(recording(LABELS), found).split("\n")[1:-1]
    assert [line.split("\t")[7] for line in raven] == [visible(label) for label in LABELS]


def test_table_on_the_screen_has_a_row_for_each_name(capsys):
    terminal.show_table(["class", "clips"], [[label, "1"] for label in LABELS], right={1})
    lines = capsys.readouterr().out.split("\n")[1:-1]
    assert [line[: -len(" 1")].rstrip() for line in lines] == [visible(label).rstrip() for label in LABELS]


def test_title_of_a_progress_bar_is_no_markup():
    code = (
        "import sys; sys.stderr.isatty = lambda: True\nfrom audiorep.cli import terminal\n"
        "with terminal.progress('Labelling, [/] [bold]x', 2) as advance: advance(1); print('[/] done')"
    )
    done = processes.run(processes.python(code))
    assert done.returncode == 0, done.stderr
    assert "[/] [bold]x" in done.stderr


def scorecard(labels: list[str]):
    generator = np.random.default_rng(0)
    targets = np.eye(len(labels), dtype=int)[np.arange(3 * len(labels)) % len(labels)]
    scores = (targets * 0.5 + generator.random(targets.shape)).astype(np.float32)
    return score(scores, targets, labels, multi_label=False)


@pytest.mark.parametrize("labels", [LABELS[k::10] for k in range(10)])
def test_model_card_names_the_classes_as_they_are(labels):
    from audiorep.models import Cost
    from audiorep.models.checkpoint import Checkpoint

    info = make_info(name="net|*1*", labels={"label": labels}, front_end={"mels": 64, "window_ms": 25.0, "hop_ms": 10.0})
    network = SimpleNamespace(embedding_size=64)  # the card looks at no weights
    model = Checkpoint(network, None, info, "arin_pico")  # type: ignore[arg-type]
    measured = Evaluation("test split of [data]_x|*", 24, 0, [], {"label": scorecard(labels)})
    text = model_card(model, [measured], Cost(1000, 1_000_000, 1000), "")
    rows = cells(text)
    assert {row[0] for row in rows} == set(map(shown, labels))
    assert {row[3] for row in rows} <= {*map(shown, labels), "—"}
    titles = [token.content for token in markdown_it.MarkdownIt().parse(text) if token.type == "inline"]
    assert markdown("net|*1*") in titles


@pytest.mark.slow
def test_pictures_draw_names_as_they_are(tmp_path, monkeypatch):
    drawn: list[str] = []
    save = pictures.save

    def look(figure, path):
        from matplotlib.text import Text

        save(figure, path)
        texts = [text for text in figure.findobj(Text) if text.get_text()]
        assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
        drawn.extend(text.get_text() for text in texts)

    monkeypatch.setattr(pictures, "save", look)
    labels = [label for label in LABELS if len(visible(label)) <= plotting.LONGEST][:40]
    for some in (labels[k : k + 20] for k in range(0, len(labels), 20)):
        pictures.confusion(scorecard(some), some, "split of $x_1$ {y}\ntop1 50 %", tmp_path / "confusion.png")
    shown = {text for label in labels if label not in ("音", "😀") for text in [visible(label)]}
    assert shown <= set(drawn)
    assert any(text.startswith("split of $x_1$ {y}\ntop1 50 %") for text in drawn)
    fast = pictures.Speed("n$_1$", "fused", "onnx", "fp32", 1, 100_000, 1.0)
    slow = pictures.Speed("_n", "fused", "eager", "fp32", 1, 2_000_000, 30.0)
    pictures.speeds([fast, slow], "$\\frac", tmp_path / "speeds.png")
    pictures.compression([("0_$x$", 300.0, 0.5, 0.4, 0.6, 1.0), ("1", 2.0, 0.4, 0.3, 0.5, None)], "top1", tmp_path / "c.png")
    assert {"n$_1$   fused, 100 k parameters", "milliseconds per clip on $\\frac", "0_$x$, 1 ms"} <= set(drawn)
    assert not any("mathdefault" in text for text in drawn)


def test_long_name_and_one_of_letters_that_no_font_has_can_be_drawn(tmp_path):
    labels = ["x" * 300, "y" * 300, "\U000e0101\U0001f9ff", "dog"]
    pictures.confusion(scorecard(labels), labels, "t" * 500, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert len(plotting.drawable("x" * 300)) == plotting.LONGEST
    assert plotting.drawable("\U0001f9ff") in ("\U0001f9ff", "\\U0001f9ff")


# ---------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("cafe\u0301", "café"),
        ("\u212bngstrom", "Ångström".replace("ö", "o")),
        (" dog ", "dog"),
        ("\u00a0größe\u2003", "größe"),
        ("caf\udce9", "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ("²", "²"),
        ("Dog", "Dog"),
        ("a\u200bb", "a\u200bb"),
    ],
)
def test_label_is_read_in_its_composed_form_and_otherwise_as_it_is(written, read):
    assert normalized(written) == read
    assert is_text(read)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("dog", "Dog", "letter case"),
        ("STRASSE", "straße", "letter case (U+00DF LATIN SMALL LETTER SHARP S)"),
        ("dog bark", "dog  bark", "blanks, dashes or underscores"),
        ("dog bark", "dog_bark", "blanks, dashes or underscores"),
        ("dog bark", "dog-bark", "blanks, dashes or underscores"),
        ("dog  bark", "dog\u00a0bark", "blanks, dashes or underscores (U+00A0 NO-BREAK SPACE)"),
        ("dog\u2013bark", "dog-bark", "characters that look alike (U+2013 EN DASH)"),
        ("dog", "d\u200bog", "characters that are not seen (U+200B ZERO WIDTH SPACE)"),
        ("dog", "dog\u00ad", "characters that are not seen (U+00AD SOFT HYPHEN)"),
        ("dog", "\u202adog", "characters that are not seen (U+202A LEFT-TO-RIGHT EMBEDDING)"),
        ("cat", "сat", "characters that look alike (U+0441 CYRILLIC SMALL LETTER ES)"),
        ("don't", "don’t", "characters that look alike (U+2019 RIGHT SINGLE QUOTATION MARK)"),
        ("fire", "ﬁre", "characters that look alike (U+FB01 LATIN SMALL LIGATURE FI)"),
        ("ABC", "ＡＢＣ", "characters that look alike"),
        ("Dog bark", "dog_bark", "blanks, dashes or underscores and letter case"),
    ],
)
def test_names_that_look_alike_are_told_with_what_alone_is_different(one, other, words):
    assert [(found[0], found[1]) for found in look_alikes([one, one, other])] == [(other, one)]
    assert difference(one, other).startswith(words)


def test_names_that_are_others_are_not_called_alike():
    labels = [
        "1",
        "-1",
        "+1",
        "1.0",
        "10",
        "C",
        "C#",
        "C++",
        "cat",
        "cats",
        "a b c",
        "abc",
        "é",
        "e",
        "0",
        "O",
        "l",
        "I",
        "x",
        "×",
    ]
    assert list(look_alikes(labels)) == []


def test_clips_of_two_spellings_are_of_one_class_and_that_is_reported(tmp_path, tone):
    names = ["cafe\u0301", "café", "café", "Cafe", "cafe", "caf\udce9"]
    clips = []
    for k, name in enumerate(names):
        path = tone(f"{k}.wav", frequency=200 + 50 * k, seconds=0.2)
        clips.append(with_normalized_labels(Example(path, {"label": (name,)}, split="train")))
    assert [clip.labels["label"] for clip in clips] == [("café",)] * 3 + [("Cafe",), ("cafe",), ("caf\\xe9",)]
    assert [(problem.kind, problem.subject, problem.detail) for problem in find_problems(clips)] == [
        ("look-alike", "cafe", "1 clips; looks like 'Cafe' (1 clips) and differs in letter case"),
        ("spelling", "caf\\xe9", "not text in UTF-8; its 1 clips are of a class of this name"),
        ("spelling", "café", "written in 2 ways, which are read as one class: 'cafe\\u0301' (1 clips), 'caf\\xe9' (2 clips)"),
    ]


def test_labels_that_become_one_are_one_label_of_the_clip():
    assert with_normalized_labels(Example(Path("a"), {"label": ("é", "e\u0301", "x")})).labels == {"label": ("é", "x")}


def test_classes_are_named_in_any_form_and_models_of_another_form_know_them():
    clips = [
        with_normalized_labels(Example(Path(f"{k}.wav"), {"label": (name,)})) for k, name in enumerate(["e\u0301", "x"] * 4)
    ]
    found = split_examples(clips, Splits(classes=("e\u0301",), other="x "))
    assert {clip.labels["label"] for clip in found} == {("é",), ("x",)}
    assert targets_of(clips[:2], "label", ["x", "e\u0301"]).tolist() == [[0, 1], [1, 0]]
