"""New heads begin as a logistic regression on the embeddings of the start."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from support.teaching import LABELS, WHOLE
from support.training import quick, weights

from audiorep.errors import ConfigError
from audiorep.info import EMBEDDING
from audiorep.models import checkpoint
from audiorep.training import fit, heads
from audiorep.training.module import Trainee

KINDS = {"label": ["a", "b", "c"], "loudness": ["quiet", "loud"]}


@pytest.fixture
def trainee() -> Trainee:
    torch.manual_seed(0)
    return Trainee(quick(augment={}), KINDS, 4, {})


def batches(number: int) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]]:
    """Noise of three colours and two levels, other noise in each pass."""
    generator = torch.Generator().manual_seed(number)
    for _ in range(4):
        noise, kind = torch.randn(12, 1000, generator=generator), torch.arange(12) % 3
        coloured = torch.stack([noise[i].unfold(0, 1 + 3 * int(k), 1).mean(-1)[:980] for i, k in enumerate(kind)])
        loud = torch.arange(12) // 3 % 2
        targets = {"label": torch.eye(3)[kind], "loudness": torch.eye(2)[loud]}
        yield coloured * (0.01 + loud[:, None]), targets, torch.full((12,), 980)


def heard(trainee: Trainee) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and classes of all passes."""
    drawn = [batch for number in range(heads.PASSES) for batch in batches(number)]
    trainee.network.eval()
    with torch.no_grad():
        found = [trainee.network(trainee.prepare(*batch)[0])[EMBEDDING] for batch in drawn]
    trainee.network.train()
    return torch.cat(found).numpy(), torch.cat([batch[1]["label"] for batch in drawn]).argmax(1).numpy()


def test_a_head_becomes_the_logistic_regression_of_least_loss(trainee):
    assert heads.fit_heads(trainee, ["label"], batches) == 48 * heads.PASSES
    values, classes = heard(trainee)
    mean, deviation = values.mean(0), values.std(0, ddof=1)
    deviation = deviation.clip(1e-6 + deviation.mean() / 100)
    theirs = LogisticRegression(C=1 / (heads.PENALTY * len(values)), max_iter=5000, tol=1e-8)
    theirs.fit((values - mean) / deviation, classes)
    layer = trainee.network.heads["label"]
    with torch.no_grad():
        ours = layer(torch.from_numpy(values)).softmax(1).numpy()
    assert ours == pytest.approx(theirs.predict_proba((values - mean) / deviation), abs=5e-3)
    assert (ours.argmax(1) == classes).mean() > 0.8


def test_nothing_but_the_named_heads_changes(trainee):
    before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
    heads.fit_heads(trainee, ["loudness"], batches)
    changed = [name for name, tensor in trainee.state_dict().items() if not torch.equal(tensor, before[name])]
    assert sorted(changed) == ["network.heads.loudness.bias", "network.heads.loudness.weight"]
    assert all(module.training for module in trainee.network.modules())
    assert all(parameter.grad is None for parameter in trainee.network.parameters())


def test_a_large_data_set_is_not_heard_as_a_whole(trainee, monkeypatch):
    monkeypatch.setattr(heads, "WINDOWS", 30)
    passes: list[int] = []
    assert heads.fit_heads(trainee, ["label"], lambda number: (passes.append(number), batches(number))[1]) == 36
    assert passes == [0]


def test_a_head_of_several_layers_stays_as_it_is(trainee):
    pair = torch.nn.Sequential(torch.nn.Linear(trainee.network.embedding_size, 2), torch.nn.Linear(2, 3))
    trainee.network.heads["label"] = pair
    before = [parameter.clone() for parameter in pair.parameters()]
    heads.fit_heads(trainee, ["label"], batches)
    assert all(torch.equal(*both) for both in zip(before, pair.parameters(), strict=True))


@pytest.mark.slow
def test_training_begins_with_fitted_heads_for_new_classes_alone(teacher, examples, tmp_path):
    renamed = {"label": [f"{name} pitch" for name in LABELS["label"]]}
    own = [e.__class__(e.path, {"label": (f"{e.labels['label'][0]} pitch",)}, split=e.split) for e in examples]
    kept = {key: value for key, value in checkpoint.read_json(teacher / checkpoint.CONFIG)["network"].items() if key != "heads"}
    still = {"optimizer": {"learning_rate": 1e-9}, "epochs": 1, "network": kept, "freeze_norms": "all", "keep": "last"}
    settings = quick(**{**WHOLE, **still}, start=str(teacher), fit_heads=True)
    said: list[str] = []
    fit.fit(settings, own, tmp_path / "new", say=said.append, classes=renamed)
    assert sum("new head" in line for line in said) == 1
    start, made = weights(teacher), weights(tmp_path / "new")
    for name in start:
        same = torch.allclose(start[name], made[name], atol=1e-6)
        assert same == (not name.startswith("heads.")), name
    model = checkpoint.load(tmp_path / "new")
    clips = [e for e in own if e.split == "train"]
    assert clips
    fit.fit(settings, examples, tmp_path / "same", say=said.append, classes=LABELS)
    assert sum("new head" in line for line in said) == 1
    assert model.info.labels == renamed


def test_fitted_heads_need_a_start():
    with pytest.raises(ConfigError, match="start"):
        quick(fit_heads=True)
