"""Fixtures of all rooms: sounds made on the spot, the way to real ones, a trained checkpoint; and the order of the files."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support import ROOT
from support.order import place
from support.sounds import sine

TONE_RATE = 4000  # Hz of the tones that are trained on
STARTED = pytest.StashKey[float]()

pytest.register_assert_rewrite("support.fixed_files")  # its assertions then say what they found

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def tone(tmp_path: Path) -> Callable[..., Path]:
    """Writes a sine under the test's own folder and gives its path."""

    def write(
        name: str,
        frequency: float = 440.0,
        seconds: float = 1.0,
        sample_rate: int = 16000,
        level: float = 0.5,
        channels: int = 1,
        subtype: str | None = None,
        format: str | None = None,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = sine(frequency, seconds, sample_rate, level)
        soundfile.write(path, np.tile(waveform[:, None], (1, channels)), sample_rate, subtype, format=format)
        return path

    return write


@pytest.fixture(scope="session")
def audiorep_data() -> Path:
    """The folder of real audio: AUDIOREP_DATA, or ../shared/data beside the project."""
    given = os.environ.get("AUDIOREP_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real audio: {folder} does not exist; name its folder in AUDIOREP_DATA")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what `make test-all` needs."""
    parser.addoption("--record", type=Path, metavar="FOLDER", help="keep the result of the run in a file in this folder")


def pytest_configure(config: pytest.Config) -> None:
    """Notes when the run began."""
    config.stash[STARTED] = time.time()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Keeps the result of the run where `--record` says so."""
    if config.getoption("record"):
        from support import record

        record.write(config.getoption("record"), terminalreporter.stats, config.stash[STARTED])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first, so that two processes end together."""
    items.sort(key=lambda item: place(item.path))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws from torch's own generator is the same in each run, whichever tests came before."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def show_rule_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when one of the engine's rules raises; in use, the rule's operator is left unmerged instead."""
    failures = sys.modules.get("audiorep.reparam.rule_failures")

    def fail(error: Exception) -> str:
        pytest.fail("".join(traceback.format_exception(error)))

    if failures is not None:
        monkeypatch.setattr(failures, "reason", fail)


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """Three classes of 12 clips each, told apart by pitch."""
    root = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    for label, hertz in {"low": 150, "middle": 500, "high": 1500}.items():
        (root / label).mkdir()
        for number in range(12):
            times = np.arange(int(TONE_RATE * generator.uniform(0.4, 0.9))) / TONE_RATE
            clip = 0.3 * np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * times) + 0.01 * generator.standard_normal(
                len(times)
            )
            soundfile.write(root / label / f"{number}.wav", clip, TONE_RATE)
    return root


@pytest.fixture(scope="session")
def trained(tones, tmp_path_factory) -> tuple[Path, list[Any]]:
    """A finished run on the tones of enough epochs to learn, and its evaluations; nothing may be written into its folder."""
    from support.training import quick

    from audiorep import datasets
    from audiorep.training import workflow

    output = tmp_path_factory.mktemp("runs") / "tones"
    return output, workflow.train(quick(epochs=25, augment={}), datasets.examples(tones), tones, output)
