"""A peer: LitServe with its own batches, as its documentation shows it; `python lit.py PORT MODEL.onnx`, without this package.

pip install litserve soundfile onnxruntime
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
import soundfile

BATCH, WAIT_SECONDS = 4, 0.005


class Sounds(litserve.LitAPI):  # type: ignore[misc]
    """One model, whose windows of up to `BATCH` requests are heard at once."""

    def setup(self, device: str) -> None:
        """Opens the model."""
        self.session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        self.labels = json.loads(about["audiorep.labels"])["label"]
        rate = json.loads(about["audiorep.sample_rate"])
        self.window = self.session.get_inputs()[0].shape[1]
        if not isinstance(self.window, int):
            self.window = round(json.loads(about["audiorep.window_seconds"]) * rate)
        self.hop = round(json.loads(about["audiorep.hop_seconds"]) * rate)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads the annotations
        """(W, N) windows of a sound."""
        samples, _ = soundfile.read(io.BytesIO(request["file"].file.read()), dtype="float32")
        return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop])

    def batch(self, inputs: list[np.ndarray]) -> tuple[np.ndarray, list[int]]:
        """All windows, and how many are of each request."""
        return np.concatenate(inputs), [len(each) for each in inputs]

    def predict(self, given: tuple[np.ndarray, list[int]]) -> tuple[np.ndarray, list[int]]:
        """Their scores."""
        return self.session.run(["label"], {"waveform": given[0]})[0], given[1]

    def unbatch(self, output: tuple[np.ndarray, list[int]]) -> list[np.ndarray]:
        """The scores of each request."""
        return np.split(output[0], np.cumsum(output[1])[:-1])

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """The best labels."""
        mean = output.mean(0)
        return {"labels": [[self.labels[k], float(mean[k])] for k in np.argsort(-mean)[:20]]}


if __name__ == "__main__":
    api = Sounds(max_batch_size=BATCH, batch_timeout=WAIT_SECONDS, api_path="/classify")
    litserve.LitServer(api, accelerator="cpu", workers_per_device=2).run(
        port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="error"
    )
