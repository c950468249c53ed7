"""Checkpoints of the paper's authors give the same scores here, and whatever else a file may be is refused in words."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from support.commands import audiorep
from support.their_network import TheirNetwork
from torch import Tensor, nn

from audiorep.errors import AudiorepError, CheckpointError, ConfigError, DataError
from audiorep.hub import authors
from audiorep.hub.authors import SPEECH_COMMANDS, URBANSOUND8K
from audiorep.models import checkpoint
from audiorep.training.recipe import PROTOCOLS


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def scores(network: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [torch.softmax(values, 1) for name, values in network(x).items() if name != "embedding"]


def assert_same(theirs: TheirNetwork, ours: nn.Module) -> None:
    x = torch.randn(2, 1, 96, 64) * 3
    expected = theirs(x)
    for a, b in zip(expected, scores(ours, x), strict=True):
        assert (a - b).abs().max() <= 1e-5
    assert all((a[0] - a[1]).abs().max() > 1e-4 for a in expected)  # the scores tell inputs apart


@pytest.mark.slow
@pytest.mark.parametrize("form", ["training", "merged"])
@pytest.mark.parametrize("classes", [(5,), (3, 4)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_their_scores_are_ours(tmp_path, form, classes, prefix):
    theirs = TheirNetwork(classes)
    before = theirs(x := torch.randn(2, 1, 96, 64))
    if form == "merged":
        theirs.merge()
        assert all((a - b).abs().max() < 1e-5 for a, b in zip(before, theirs(x), strict=True))
    found = authors.read(theirs.save(tmp_path / "a.pyth", prefix))
    assert_same(theirs, found.network)
    assert found.form == form
    assert found.heads == dict(zip(("label",) if len(classes) == 1 else ("verb", "noun"), classes, strict=True))
    assert found.epoch == 49
    assert not found.network.training
    assert found.parameters == sum(p.numel() for p in theirs.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [{"width": 6}, {"depths": (2, 1)}, {"expansion": 2}, {"depths": (1, 1, 12, 1)}, {"width": 3, "expansion": 1}]
)
def test_sizes_are_taken_from_the_tensors(tmp_path, sizes):
    theirs = TheirNetwork((5,), **sizes)
    found = authors.read(theirs.save(tmp_path / "a.pyth"))
    assert_same(theirs, found.network)
    assert {key: getattr(found.network.config, key) for key in sizes} == sizes


@pytest.mark.slow
@pytest.mark.parametrize(("form", "parameters"), [("training", 11_834_869), ("merged", 11_691_381)])
def test_the_whole_size_has_the_papers_parameters(tmp_path, form, parameters):
    theirs = TheirNetwork((309,), 64, (3, 4, 6, 3))
    if form == "merged":
        theirs.merge()
    found = authors.read(theirs.save(tmp_path / "a.pyth"))
    assert found.parameters == parameters
    assert_same(theirs, found.network)


def test_a_bare_table_and_half_precision_are_read_and_counters_may_be_absent(tmp_path):
    theirs = TheirNetwork((5,)).half().float()
    state = {name: t.half() for name, t in theirs.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "a.pyth")
    found = authors.read(tmp_path / "a.pyth")
    assert found.epoch is None
    assert {t.dtype for t in found.network.parameters()} == {torch.float32}
    assert_same(theirs, found.network)


def test_an_imported_network_learns(tmp_path):
    found = authors.read(TheirNetwork((5,)).merge().save(tmp_path / "a.pyth"))
    found.network.train()(torch.randn(2, 1, 64, 64))["label"].sum().backward()
    assert all(p.grad is not None for p in found.network.parameters())


class Trap:
    """Executed code would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_objects_in_a_file_are_refused_and_not_executed(tmp_path):
    path = TheirNetwork((5,)).save(tmp_path / "a.pyth", cfg=Trap(tmp_path / "sprung"))
    with pytest.raises(CheckpointError, match=r"a\.pyth .* more than tensors"):
        authors.read(path)
    assert not (tmp_path / "sprung").exists()


STEM, BLOCK = "s1.pathway0_stem.conv.weight", "s2.pathway0_res0.branch2"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop(f"{BLOCK}.d_bn.running_var"), r"whole AudioRepInceptionNeXt; missing: s2\S+d_bn\.running_var\.$"),
        (lambda s: s.update({"s2.extra": torch.ones(1)}), r"left over: s2\.extra\.$"),
        (lambda s: s.update({f"x{i}": torch.ones(1) for i in range(9)}), r"left over: x0, x1, x2 and 6 more"),
        (
            lambda s: s.update({f"{BLOCK}.c.weight": s[f"{BLOCK}.c.weight"][:, :2]}),
            r"c\.weight \(16 × 2 × 1 × 1 instead of 16 × 4",
        ),
        (
            lambda s: s.update({f"{BLOCK}.a.weight": s[f"{BLOCK}.a.weight"].mT}),
            r"of another shape: s2\S+a\.weight \(4 × 1 × 1 × 21",
        ),
        (lambda s: s.update({f"{BLOCK}.a.weight": torch.ones(4, 1, 11, 1)}), r"left over|another shape"),
        (lambda s: s.update({f"{BLOCK}.a.weight": torch.ones(4, 1, 20, 1)}), r"must be odd"),
        (lambda s: s.update({f"{BLOCK}.a_reparam.weight": torch.ones(4, 1, 21, 1)}), r"missing: s2\S+a_reparam\.bias"),
        (lambda s: s.update({STEM: torch.ones(3)}), r"whole AudioRepInceptionNeXt"),
        (lambda s: s.update({STEM: torch.tensor(3.0)}), r"whole AudioRepInceptionNeXt"),
        (lambda s: s.update({STEM: torch.ones(1, 1, 5, 7).expand(10**9, 1, 5, 7)[:0]}), r"width is 0"),
        (lambda s: s.pop("head.projection.weight"), r"heads \{\} need"),
        (lambda s: s.update({"head.projection_verb.weight": torch.ones(2, 32)}), r"missing: head\.projection_verb\.bias"),
        (lambda s: s.update({STEM: s[STEM] * float("nan")}), rf"no finite numbers, in {STEM}"),
        (
            lambda s: s.update({"s1.pathway1_stem.conv.weight": torch.ones(1)}),
            "is not an AudioRepInceptionNeXt: its tensors are",
        ),
        (lambda s: s.pop(STEM), "is not an AudioRepInceptionNeXt"),
        (lambda s: s.update({"s2": 3}), "holds no table of tensors"),
        (lambda s: s.clear(), "holds no table of tensors"),
    ],
)
def test_anything_but_the_whole_network_is_refused(tmp_path, change, reason):
    state = dict(TheirNetwork((5,)).state_dict())
    change(state)
    torch.save({"model_state": state}, tmp_path / "a.pyth")
    with pytest.raises(CheckpointError, match=reason):
        authors.read(tmp_path / "a.pyth")


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    path = TheirNetwork((5,)).save(tmp_path / "a.pyth")
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-100], b"\x80\x04K\x01."):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            authors.read(path)
    with pytest.raises(CheckpointError, match="No such file"):
        authors.read(tmp_path / "none.pyth")
    torch.save([torch.ones(1)], path)
    with pytest.raises(CheckpointError, match="list"):
        authors.read(path)


def imported(tmp_path: Path, classes: tuple[int, ...], data_set: str | None = None, labels: tuple[Path, ...] = ()):
    path = TheirNetwork(classes, depths=(1, 1)).save(tmp_path / "a.pyth")
    authors.convert(path, tmp_path / "out", data_set, labels)
    return checkpoint.load(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data_set", "first", "last"),
    [
        ("vggsound", "air conditioning noise", "zebra braying"),
        ("speech_commands", SPEECH_COMMANDS[0], "zero"),
        ("urbansound8k", URBANSOUND8K[0], "street_music"),
        ("nsynth", "bass", "vocal"),
    ],
)
def test_data_set_and_classes_follow_from_the_outputs(tmp_path, data_set, first, last):
    row = PROTOCOLS[data_set]
    loaded = imported(tmp_path, tuple(row.heads.values()))
    info = loaded.info
    assert info.provenance["data_set"] == data_set
    assert (info.labels["label"][0], info.labels["label"][-1]) == (first, last)
    assert len(set(info.labels["label"])) == row.heads["label"]
    assert (info.window_seconds, info.padding, info.views) == (row.window_seconds, row.padding, row.views)
    assert loaded.network(loaded.example())["label"].shape == (1, row.heads["label"])


@pytest.mark.slow
def test_a_file_of_names_gives_classes_of_ones_own(tmp_path):
    (tmp_path / "names.txt").write_text("dog\n\nrace car, auto racing \ncat\n", encoding="utf-8")
    info = imported(tmp_path, (3,), "vggsound", (tmp_path / "names.txt",)).info
    assert info.labels == {"label": ["dog", "race car, auto racing", "cat"]}
    assert info.provenance["class_order"] == "that of names.txt"


@pytest.mark.slow
def test_verbs_and_nouns_come_from_two_tables(tmp_path):
    for name, count in (("verbs", 97), ("nouns", 300)):
        rows = [f"{i},{name}{i},\"['a', 'b']\"" for i in reversed(range(count))]
        (tmp_path / f"{name}.csv").write_text("\n".join(["id,key,instances", *rows]))
    info = imported(tmp_path, (97, 300), None, (tmp_path / "verbs.csv", tmp_path / "nouns.csv")).info
    assert info.labels["verb"][:2] == ["verbs0", "verbs1"]
    assert info.labels["noun"][299] == "nouns299"
    assert info.views == 10


@pytest.mark.parametrize(
    ("classes", "data_set", "names", "error", "reason"),
    [
        ((5,), None, [], ConfigError, r"label \(5\).*--data-set"),
        ((5,), "esc50", [], ConfigError, "'esc50'.*vggsound"),
        ((5,), "epic_kitchens", [], ConfigError, r"label \(5\).*verb \(97\), noun \(300\)"),
        ((5,), "nsynth", [], ConfigError, r"label \(11\).*--labels"),
        ((2,), "nsynth", ["a\nb\nc"], ConfigError, "3 classes.*label has 2"),
        ((2,), "nsynth", ["a\na"], ConfigError, "names a twice"),
        ((2,), "nsynth", ["id,key\n0,a\n2,b"], DataError, "left out"),
        ((2,), "nsynth", ["a\nb", "a\nb"], ConfigError, "2 times"),
        ((2,), "nsynth", [None], DataError, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, classes, data_set, names, error, reason):
    files = tuple(tmp_path / f"{i}.txt" for i in range(len(names)))
    for file, text in zip(files, names, strict=True):
        if text is not None:
            file.write_text(text)
    with pytest.raises(error, match=reason):
        imported(tmp_path, classes, data_set, files)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.pyth", *(file.name for file in files)}


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fails(*_: object) -> None:
        raise ConfigError("the disk is full.")

    monkeypatch.setattr(checkpoint, "write_json", fails)
    with pytest.raises(AudiorepError, match="full"):
        imported(tmp_path, (11,))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pyth"]


def test_a_folder_in_use_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="out exists"):
        imported(tmp_path, (11,))
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_command_says_what_it_took_for_granted(tmp_path):
    path = TheirNetwork((11,)).merge().save(tmp_path / "a.pyth")
    done = audiorep("import", path, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"Merged form, {authors.read(path).parameters:,} parameters, classes: label 11",
        "Data set: nsynth, which has as many classes; if it is another, say --data-set",
        "Epoch 49 by the file's own count",
        "The class order is taken to be the official one of nsynth; the file does not say",
    ]
    assert done.stderr.endswith("out -o model.onnx\n")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["network"]["time_kernels"] == [21]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (
            (97, 300),
            "The classes are called verb_0 to verb_96 and noun_0 to noun_299, since the file has no names. To name them, "
            "import again with --labels EPIC_100_verb_classes.csv --labels EPIC_100_noun_classes.csv: a name a line, or",
        ),
        (
            (44,),
            "The classes are called label_0 to label_43, since the file has no names. To name them, import again with --labels",
        ),
    ],
)
def test_classes_without_known_names_are_numbered_and_the_command_says_how_to_name_them(tmp_path, classes, sentence):
    path = TheirNetwork(classes, depths=(1, 1)).save(tmp_path / "a.pyth")
    done = audiorep("import", path, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(sentence)
    labels = checkpoint.load(tmp_path / "out").info.labels
    assert [len(names) for names in labels.values()] == list(classes)
    assert all(names[7] == f"{head}_7" for head, names in labels.items())


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        (lambda t: t.to_sparse(), "a sparse tensor"),
        (lambda t: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "a nested tensor"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a quantized tensor"),
        (lambda t: t[:1, :1, :1, :1].clone().expand(10**6, 10**6, 1, 1), "an expanded tensor"),
        (lambda t: torch.empty(10**12, device="meta"), "a tensor without values"),
    ],
)
def test_tensors_that_are_not_plain_are_refused_in_a_sentence(tmp_path, odd, kind):
    state = dict(TheirNetwork((5,), depths=(1, 1)).state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state[STEM] = odd(state[STEM])
        torch.save({"model_state": state}, tmp_path / "a.pyth")
    with pytest.raises(CheckpointError, match=rf"a\.pyth holds 'model_state\.{STEM}', {kind}.*; only plain dense tensors"):
        authors.read(tmp_path / "a.pyth")


@pytest.mark.slow
def test_the_command_refuses_in_one_sentence(tmp_path):
    path = TheirNetwork((45,)).save(tmp_path / "a.pyth")
    done = audiorep("import", path, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
