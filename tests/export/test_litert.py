"""A `.tflite` computes what its checkpoint does, runs without torch, and foreign or damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import processes

pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
pytest.importorskip("litert_torch", reason="needs the extra litert")

import torch
from ai_edge_litert import interpreter
from support.fixed_files import LAYERS, FixedFiles, without_metadata
from support.models import SHALLOW, clips, made, pitched, telling

from audiorep.export import litert as litert_export
from audiorep.export.litert import export
from audiorep.export.parity import PARITY_LIMIT
from audiorep.models.front_end import FRONT_ENDS, MatrixLogMel
from audiorep.runtimes.litert import LiteRtSession
from audiorep.runtimes.silence import silenced

pytestmark = pytest.mark.slow


def operators(path: Path, clip: np.ndarray) -> list[tuple[str, list[dict], np.ndarray]]:
    """What a file runs on a clip, in order: names, tensors of what goes in, values of the first."""
    with silenced():
        resolver = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        runs = interpreter.Interpreter(
            str(path), experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=True
        )
        runs.allocate_tensors()
        runs.set_tensor(runs.get_input_details()[0]["index"], clip[None])
        runs.invoke()
    tensors = {tensor["index"]: tensor for tensor in runs.get_tensor_details()}
    steps = [(step["op_name"], [index for index in step["inputs"] if index >= 0]) for step in runs._get_ops_details()]
    return [(name, [tensors[index] for index in given], runs.get_tensor(given[0])) for name, given in steps]


def test_constants_in_float16_keep_slow_sounds_better_than_rounding_each_alone():
    config = FRONT_ENDS["light"]
    exact, halved = MatrixLogMel(config, "radix_4").spectra, MatrixLogMel(config, "radix_4")
    litert_export._halve(halved)
    for name, wanted in exact.named_parameters():
        found = halved.spectra.get_parameter(name)
        assert torch.equal(found, found.half().float())
        assert (found - wanted).abs().max() < 2e-3
        slow = torch.linspace(0.5, 1, len(wanted)) @ torch.stack([found - wanted, wanted.half().float() - wanted])
        assert slow[0].abs().mean() < 0.3 * slow[1].abs().mean()


class TestLiteRt(FixedFiles):
    runtime, suffix, session, export, device, largest_int8 = (
        "litert",
        ".tflite",
        LiteRtSession,
        staticmethod(export),
        "LiteRT 2.",
        0.4,
    )

    def converted(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        monkeypatch.setattr(litert_export, "_write", lambda model, path, small: path.write_bytes(content))

    @pytest.mark.parametrize("threads", [1, 2])
    def test_any_number_of_threads_gives_the_same_scores(self, exported, threads):
        waveform = np.stack(clips(2))
        found, expected = LiteRtSession(exported[0], threads)(waveform), LiteRtSession(exported[0])(waveform)
        assert all(np.abs(found[head] - expected[head]).max() <= PARITY_LIMIT for head in expected)

    def test_it_runs_quietly_without_torch(self, exported):
        code = (
            "import sys; sys.modules['torch'] = sys.modules['litert_torch'] = None; import numpy as np; "
            "from audiorep.runtimes import open_session; session = open_session(sys.argv[1]); "
            "print(session(np.zeros((2, 15999), np.float32))['noun'].shape)"
        )
        done = processes.run(processes.python(code, exported[0]))
        assert (done.returncode, done.stdout, done.stderr) == (0, "(2, 3)\n", "")

    def test_int8_of_a_broken_network_is_refused_and_leaves_the_older_file(self, exported, tmp_path, monkeypatch):
        model, content = made(depths=SHALLOW), without_metadata(exported[0])
        head = model.network.heads["verb"].weight.detach().numpy()
        assert content.count(head.tobytes()) == 1
        self.converted(monkeypatch, content.replace(head.tobytes(), np.full_like(head, np.nan).tobytes()))
        self.refuses_to_calibrate(tmp_path, model)

    def test_int8_weights_have_a_scale_for_each_channel_and_no_offset(self, int8):
        steps = operators(int8[0], pitched(1)[0])
        names = [name for name, *_ in steps]
        weighted = [given for name, given, _ in steps if "CONV" in name or name == "FULLY_CONNECTED"]
        network = [given for given in weighted if given[0]["dtype"] == np.int8]
        assert len(network) == LAYERS
        for _, weight, *_ in network:
            assert weight["dtype"] == np.int8
            channels = weight["shape"][weight["quantization_parameters"]["quantized_dimension"]]
            assert len(weight["quantization_parameters"]["scales"]) == channels > 1
            assert not weight["quantization_parameters"]["zero_points"].any()
        assert names.count("QUANTIZE") == 1
        assert names[-2:] == ["DEQUANTIZE", "SOFTMAX"]

    @pytest.mark.parametrize("level", [0.3, 0.001])
    def test_int8_leaves_the_front_end_in_float(self, int8, level):
        clip = pitched(1, seed=3, levels=(level, level))[0]
        steps = operators(int8[0], clip)
        border = [name for name, *_ in steps].index("QUANTIZE")
        for name, given, _ in steps[:border]:
            assert given[0]["dtype"] == (np.float16 if name == "DEQUANTIZE" else np.float32)
        expected = telling().front_end(torch.from_numpy(clip[None]))[0].numpy()
        difference = np.abs(steps[border][2].reshape(expected.shape) - expected)
        assert difference.mean() < 1e-3
        assert difference.max() < 0.1
