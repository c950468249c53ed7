"""Ctrl-C while a value is on its way to TensorBoard's thread comes a moment later."""

from __future__ import annotations

import signal

import pytest

from audiorep.training.callbacks import TensorBoard


@pytest.mark.slow
def test_signals_wait_until_a_value_is_handed_on(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    logger = TensorBoard(tmp_path, "logs", version="part_1")
    written = []

    def put(name, value, step):
        signal.raise_signal(signal.SIGINT)
        written.append(name)

    monkeypatch.setattr(logger.experiment, "add_scalar", put)
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"loss": 1.0, "accuracy": 0.5}, 0)
    assert written == ["loss", "accuracy"]
    logger.finalize("interrupted")
    signal.signal(signal.SIGINT, before)
