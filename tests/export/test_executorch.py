"""A `.pte` computes what its checkpoint does, and foreign or damaged files are refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from support import processes

pytest.importorskip("executorch", reason="needs the extra executorch")

import torch
from support.fixed_files import LAYERS, FixedFiles
from support.models import SHALLOW, made, pitched, telling

from audiorep.export import executorch as executorch_export
from audiorep.export.executorch import export
from audiorep.export.fixed_program import fixed_program
from audiorep.runtimes import fixed_shape
from audiorep.runtimes.executorch import ExecuTorchSession
from audiorep.runtimes.torch import TorchSession

pytestmark = pytest.mark.slow


class TestExecuTorch(FixedFiles):
    runtime, suffix, session, export, device, largest_int8 = (
        "executorch",
        ".pte",
        ExecuTorchSession,
        staticmethod(export),
        "ExecuTorch 1.",
        0.45,
    )

    def converted(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        monkeypatch.setattr(executorch_export, "_converted", lambda model, seen: SimpleNamespace(buffer=content))

    @pytest.mark.parametrize("threads", [pytest.param(1, marks=pytest.mark.full), 2])
    def test_it_runs_quietly_with_the_first_sessions_threads(self, exported, threads):
        code = (
            "import sys; import numpy as np; from audiorep.errors import ConfigError\n"
            "from audiorep.runtimes import open_session\n"
            "path, threads = sys.argv[1], int(sys.argv[2]); first = open_session(path, threads=threads)\n"
            "try: open_session(path, threads=threads + 1)\n"
            "except ConfigError as error: print(error)\n"
            "again = open_session(path), open_session(path, threads=threads)\n"
            "print([session(np.zeros((2, 15999), np.float32))['noun'].shape for session in (first, *again)])"
        )
        done = processes.run(processes.python(code, exported[0], threads))
        assert (done.returncode, done.stderr) == (0, "")
        refusal, shapes = done.stdout.splitlines()
        assert f"{threads} in this process; {threads + 1} were asked for" in refusal
        assert shapes == "[(2, 3), (2, 3), (2, 3)]"

    def test_int8_of_a_broken_network_is_refused_and_leaves_the_older_file(self, tmp_path):
        model = made(depths=SHALLOW)
        model.network.heads["verb"].bias.data[0] = float("nan")
        self.refuses_to_calibrate(tmp_path, model)

    def test_int8_weights_have_a_scale_for_each_channel_and_no_offset(self):
        model = telling()
        network = executorch_export._quantized(*fixed_program(model, small=True), fixed_shape.inputs(model.info, pitched(10)))
        weights = [node.args for node in network.graph.nodes if "dequantize_per_channel" in str(node.target)]
        assert len(weights) == LAYERS
        for held, scales, offsets, axis, *_ in weights:
            weight = getattr(network, held.target)
            assert weight.dtype == torch.int8
            assert (axis, len(getattr(network, scales.target))) == (0, len(weight))
            assert not getattr(network, offsets.target).any()
        inner = [node for node in network.graph.nodes if "conv2d" in str(node.target) or "linear" in str(node.target)]
        assert len(inner) == len(weights)
        assert all("dequantize_per_tensor" in str(node.args[0].target) for node in inner)

    @pytest.mark.parametrize("level", [0.3, 0.001])
    def test_int8_hears_quiet_sounds_as_loud_ones(self, int8, level):
        heard = np.stack(pitched(10, seed=3, levels=(level, level)))
        found, expected = ExecuTorchSession(int8[0])(heard)["pitch"], TorchSession(telling())(heard)["pitch"]
        assert np.abs(found - expected).max() < 0.1
