"""A manifest is read as it was meant, or refused with what it is instead; what a run writes of its clips is read again."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from audiorep import datasets
from audiorep.datasets import Example, Splits
from audiorep.datasets.manifest import joined, separated
from audiorep.errors import DataError
from audiorep.training.workflow import write_clips


def manifest(folder: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = folder / "clips.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def read(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.path.name, e.labels["label"]) for e in datasets.examples(path)]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        datasets.examples(path)
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path)).strip()


@pytest.mark.parametrize(("separator", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars"), (" ", "blanks")])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("first", ["", "sep={}\n", "\n\n"])
def test_other_separator_is_named(tmp_path, separator, words, quote, first):
    rows = [("path", "label", "split"), ("a.wav", "dog", "train")]
    text = "".join(separator.join(f"{quote}{cell}{quote}" for cell in row) + "\n" for row in rows)
    text = refusal(manifest(tmp_path, first.format(separator) + text))
    assert text == f"has {words} between its columns; save it with commas, as path,label."


@pytest.mark.parametrize(
    ("encoding", "name"),
    [(e, "UTF-16") for e in ("utf-16", "utf-16-le", "utf-16-be")] + [("utf-32", "UTF-32")],
)
def test_wide_encoding_is_named_with_and_without_its_mark(tmp_path, encoding, name):
    text = refusal(manifest(tmp_path, "path,label\na.wav,dög\n", encoding))
    assert text == f"is not a CSV file in UTF-8 but text in {name}. Save it as CSV in UTF-8."


def test_byte_that_is_no_utf_8_is_told_with_its_line_and_what_it_may_be(tmp_path):
    text = refusal(manifest(tmp_path, "path,label\na.wav,dog\nb.wav,café\n", "latin-1"))
    assert text == (
        "is not a CSV file in UTF-8: line 3 holds the byte 0xE9, which is 'é' in Latin-1 (Windows-1252). Save it in UTF-8."
    )
    assert "line 2 holds the byte 0x81. Save it in UTF-8." in refusal(manifest(tmp_path, b"path,label\n\x81,dog\n"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04\x14\x00", "a zip archive, as Excel workbooks are. Save it as CSV in UTF-8."),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "a WAV file. A CSV file is needed here."),
        (b"\x1f\x8b\x08\x00", "compressed with gzip. A CSV file is needed here."),
        (b"path,label\na\x00.wav,dog\n", "no text, for it holds NUL bytes. A CSV file is needed here."),
    ],
)
def test_file_of_another_kind_is_named(tmp_path, content, what):
    assert refusal(manifest(tmp_path, content)) == f"is not a CSV file in UTF-8 but {what}"


def test_nul_byte_far_below_is_told_with_its_line(tmp_path):
    text = "path,label\n" + "a.wav,dog\n" * 1000 + "b\0.wav,dog\n"
    assert (
        refusal(manifest(tmp_path, text)) == ", line 1002: it holds a NUL byte, as no text does. The file is damaged.".strip()
    )


@pytest.mark.parametrize("blank", ["\n", " \n", ",\n", " , \n", ",,,,\n", "\t\n", "\xa0\n", '"",""\n'])
def test_blank_rows_are_ignored_wherever_they_are(tmp_path, blank):
    path = manifest(tmp_path, f"{blank}path,label\n{blank}a.wav,dog\n{blank}{blank}b.wav,cat\n{blank}")
    assert read(path) == [("a.wav", ("dog",)), ("b.wav", ("cat",))]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_after_blank_ones_keeps_its_number(tmp_path, newline):
    path = manifest(tmp_path, newline.join(["", "path,label,start", "", ",,", "a.wav,dog,x", ""]))
    assert refusal(path) == ", line 5: start is 'x'; a number is needed.".strip()


def test_header_may_have_blanks_and_columns_without_a_name(tmp_path):
    assert read(manifest(tmp_path, "path , label,,\na.wav, dog,,\n")) == [("a.wav", ("dog",))]


def test_column_that_is_named_twice_is_refused(tmp_path):
    text = refusal(manifest(tmp_path, "path,label,label\na.wav,dog,cat\n"))
    assert text == "has the column label 2 times; name each once."


def test_header_that_is_a_row_is_refused_with_what_to_do(tmp_path):
    text = refusal(manifest(tmp_path, "a.wav,dog\nb.wav,cat\n"))
    assert text == "lacks the column path, label; its header names a.wav, dog. The first line must name the columns."


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ('"path","\\label","en\nd"', r"path, \label, en\nd"),
        ("path,\x1b[2J", r"path, \u001b[2J"),
        ("path," + "x" * 1000, "path, " + "x" * 60 + "…"),
        ("path" + ",x" * 30, "path" + ", x" * 19 + " and 11 more"),
    ],
)
def test_column_s_name_is_told_in_one_line_whatever_it_is(tmp_path, header, shown):
    text = refusal(manifest(tmp_path, f"{header}\na.wav,dog\n"))
    assert text == f"lacks the column label; its header names {shown}."


def test_names_of_data_are_told_in_one_line_where_others_were_asked_for(tmp_path):
    path = manifest(tmp_path, 'path,label,license\na.wav,"do\ng","C\nC0"\n')
    with pytest.raises(DataError, match=r"C\\nC0 \(1\)"):
        datasets.examples(path, splits=Splits(licenses=("CC0",)))
    with pytest.raises(DataError, match=r"do\\ng"):
        datasets.examples(path, splits=Splits(classes=("cat",)))
    twice = manifest(tmp_path, 'path,label,"no\nte","no\nte"\na.wav,dog,,\n')
    assert refusal(twice) == r"has the column no\nte 2 times; name each once."


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ('"b.wav,dog\nc.wav,cat', "a quotation mark in line 3 or below is never closed."),
        ('"b" c.wav,dog', "line 3 has a quotation mark inside a cell; double it, and put the cell in quotation marks."),
        ('b.wav,"' + "x\n" * 70_000, "line 3 has a cell of more than 131,072 characters; is a quotation mark never closed?"),
    ],
)
def test_unbalanced_quotation_mark_is_told_with_the_line_it_is_in(tmp_path, row, problem):
    assert refusal(manifest(tmp_path, f"path,label\na.wav,dog\n{row}")) == f"is not a CSV file in UTF-8: {problem}"


@pytest.mark.parametrize(
    ("start", "end", "problem"),
    [("-1", "", "start is '-1'; seconds from 0 up"), ("2", "1", "end is '1'; a value after start 2"), ("", "0", "end is '0'")],
)
def test_stretch_that_cannot_be_is_refused_with_its_line(tmp_path, start, end, problem):
    text = refusal(manifest(tmp_path, f"path,label,start,end\na.wav,dog,{start},{end}\n"))
    assert text.startswith(f", line 2: {problem}")


def test_path_of_windows_is_found_and_a_backslash_in_a_name_is_kept(tmp_path):
    for name in ("dogs/a.wav", "b\\c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = datasets.examples(manifest(tmp_path, "path,label\ndogs\\a.wav,dog\nb\\c.wav,dog\nC:\\x\\d.wav,dog\n"))
    assert [e.path for e in found] == [tmp_path / "dogs/a.wav", tmp_path / "b\\c.wav", tmp_path / "C:\\x\\d.wav"]


def test_path_that_is_too_long_for_a_file_stays_a_clip_that_is_reported(tmp_path):
    [found] = datasets.examples(manifest(tmp_path, f"path,label\n{'a' * 5000}\\b.wav,dog\n"))
    assert len(found.path.name) > 5000


def test_rows_without_a_split_among_others_are_told(tmp_path):
    path = manifest(tmp_path, "path,label,split\na.wav,dog,test\nb.wav,dog,\nc.wav,cat,train\n")
    assert datasets.notes(path) == [f"1 of the 3 rows of {path} name no split, as others do, and train."]
    assert datasets.notes(manifest(tmp_path, "path,label,split\na.wav,dog,\n")) == []


LABELS = [";", "a;b", "a;", ";a", "\\", "a\\", "\\;", "a\\\\;b", '"', '";"', "a,b", "a\nb", "a\\;\\", "=1+1", "#", "'"]


@pytest.mark.parametrize("label", LABELS)
def test_label_survives_the_trip_through_a_cell_alone_and_among_others(label):
    assert separated(joined([label])) == [label]
    assert separated(joined([label, "dog", label])) == [label, "dog", label]


def test_cell_as_ever_is_read_as_ever():
    assert separated(" cat ; dog ;; ") == ["cat", "dog"]
    assert separated("C:\\dog;\\n") == ["C:\\dog", "\\n"]
    assert separated("") == separated(" ; ") == []


def test_any_labels_survive_the_trip_through_a_cell():
    chance = random.Random(0)
    for _ in range(3000):
        labels = [
            "".join(chance.choices('\\;ab "', k=chance.randint(1, 6))).strip() or "x" for _ in range(chance.randint(1, 4))
        ]
        assert separated(joined(labels)) == labels


def test_clips_of_a_run_are_read_again_as_they_were(tmp_path):
    names = [
        "a.wav",
        " blank first.wav",
        'comma, "quote".wav',
        "line\nbreak.wav",
        "dir ;/b.wav",
        "größe.wav",
        "-o.wav",
        "#.wav",
    ]
    clips = [
        Example(tmp_path / name, {"label": (label,)}, start=0.5, end=1.25, split="test", fold=3, group="a;b", license="CC, BY")
        for name, label in zip(names * 2, LABELS, strict=True)
    ]
    clips.append(Example(tmp_path / "several.wav", {"label": tuple(LABELS)}, split="train"))
    clips.append(Example(tmp_path / "none.wav", {"label": ()}, split="valid"))
    write_clips(clips, tmp_path / "clips.csv")
    found = datasets.examples(tmp_path / "clips.csv")
    assert [e.path.resolve() for e in found] == [e.path for e in clips]
    assert [(e.labels, e.start, e.end, e.split, e.fold, e.group) for e in found] == [
        (e.labels, e.start, e.end, e.split, e.fold, e.group) for e in clips
    ]


def test_table_that_a_spreadsheet_would_calculate_holds_the_values_themselves(tmp_path):
    clips = [Example(tmp_path / "=a.wav", {"label": (label,)}, split="train") for label in ("=1+1", "+1", "-1", "@x")]
    write_clips(clips, tmp_path / "clips.csv")
    with (tmp_path / "clips.csv").open(newline="", encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["=1+1", "+1", "-1", "@x"]
