"""Measures how fast audiorep is, against the usual way in the same run, and keeps the result.

    python experiments/measure.py startup                      a cold `--help` and `predict one.wav`
    python experiments/measure.py clips --data ESC50_FOLDER    files on disk to labels, against librosa and eager PyTorch
    python experiments/measure.py long                         a 10-hour 48 kHz stereo file
    python experiments/measure.py pipeline --data ESC50_FOLDER training from clips, against training on ready tensors
    python experiments/measure.py front_end                    waveform to log-mel, against librosa
    python experiments/measure.py windows                      decoded sound to scores, the bundled model
    python experiments/measure.py zeros                        the bundled model with zeros among its weights, against without

Each writes `results/<name>.json` with the environment and the command. Close other programs first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiorep.benchmark import end_to_end
from audiorep.benchmark.environment import environment
from audiorep.benchmark.measure import PAUSE
from audiorep.files import write_json
from audiorep.runtimes import timing
from audiorep.runtimes.timing import Times

ROOT = Path(__file__).resolve().parent.parent
CLI = [str(Path(sys.executable).with_name("audiorep"))]


def startup(arguments: argparse.Namespace) -> dict[str, Any]:
    """Wall seconds and peak memory of whole processes, cold caches apart: median of nine."""
    siren = str(ROOT / "samples" / "siren.flac")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "audiorep --help": [*CLI, "--help"],
        "audiorep predict one file": [*CLI, "predict", siren],
    }
    return {
        row.name: {"seconds_median": row.seconds, "peak_memory_mb": row.peak_memory_mb}
        for row in end_to_end.whole_processes(commands, 9)
    }


def clips(arguments: argparse.Namespace) -> dict[str, Any]:
    """Clips a second from files to labels, ours and the usual way, 200 clips of each in turn."""
    from audiorep.models import checkpoint
    from audiorep.predict.classifier import Classifier

    paths = sorted((arguments.data / "audio").glob("*.ogg"))
    classifier = Classifier.load("esc50")
    ways = {end_to_end.USUAL: end_to_end.usual(checkpoint.load("esc50")), "audiorep": end_to_end.ours(classifier)}
    usual, ours = end_to_end.files_to_labels(ways, paths, max(1, len(paths) // 200))
    return {
        "clips": len(paths),
        "model": classifier.info.name,
        "audiorep_clips_per_second": ours.files_per_second,
        "usual_clips_per_second": usual.files_per_second,
        "ratio_median": ours.ratio,
        "ratio_low": ours.ratio_low,
        "ratio_high": ours.ratio_high,
        "usual": "librosa.load, librosa.stft and mel, the network in the authors' merged form in eager PyTorch, file by file",
    }


def long(arguments: argparse.Namespace) -> dict[str, Any]:
    """Times real time, and peak memory, of one very long recording through the command line."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        path = Path(folder) / "long.w64"
        minute = (0.1 * generator.standard_normal((48_000 * 60, 2))).astype(np.float32)
        with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16", format="W64") as file:
            for _ in range(round(arguments.hours * 60)):
                file.write(np.roll(minute, int(generator.integers(48_000)), axis=0))
        command = [*CLI, "predict", str(path), "-o", str(Path(folder) / "out.csv")]
        seconds, memory = end_to_end.whole_process(command)
        rows = (Path(folder) / "out.csv").read_text().count("\n") - 1
        size = path.stat().st_size
    return {
        "hours": arguments.hours,
        "file_gb": size / 1e9,
        "seconds": seconds,
        "times_real_time": arguments.hours * 3600 / seconds,
        "peak_memory_mb": memory,
        "rows_written": rows,
    }


def pipeline(arguments: argparse.Namespace) -> dict[str, Any]:
    """Clips a second that training reaches from clips, over the rate on ready tensors; the two in turn."""
    return _against_ready_tensors(arguments, arguments.data)


def shards(arguments: argparse.Namespace) -> dict[str, Any]:
    """As `pipeline`, from tar shards of which nothing is kept in memory: every cut is decoded when it is used."""
    from audiorep import datasets
    from audiorep.datasets import clips
    from audiorep.datasets.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        done = prepare(datasets.listed_examples(arguments.data), None, Path(folder) / "shards", 16_000, 500)
        clips.MEMORY_LIMIT = -1
        found = _against_ready_tensors(arguments, done.folder)
    return {**found, "shards": len(done.shards), "shard_mb": done.bytes / len(done.shards) / 1e6}


def _against_ready_tensors(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    import logging
    import warnings

    import torch

    from audiorep import config, datasets
    from audiorep.training.recipe import configure

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    values = {**config.read_toml(arguments.recipe), "workers": arguments.workers}
    loaded = configure(values, str(arguments.recipe))
    examples = datasets.examples(data, splits=loaded.splits)
    with tempfile.TemporaryDirectory() as folder:
        run = _Training(loaded, [e for e in examples if e.split == "train"], Path(folder))
        turns = [lambda: [run.on_ready_tensors(arguments.steps)], lambda: [run.from_clips(arguments.steps)]]
        ready, whole = timing.in_turns(turns, arguments.rounds)
    ratios = timing.ratios(ready, whole)
    return {
        "recipe": arguments.recipe.name,
        "workers": arguments.workers,
        "steps": arguments.steps,
        "rounds": arguments.rounds,
        "ready_tensors_clips_per_second": 1 / timing.median(ready),
        "from_clips_clips_per_second": 1 / timing.median(whole),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "threads": torch.get_num_threads(),
    }


class _Training:
    """One network trained by turns on tensors that are ready and, through Lightning, from clips."""

    def __init__(self, settings: Any, examples: list[Any], folder: Path) -> None:
        from audiorep.datasets import labels_of
        from audiorep.datasets.clips import EpochSampler
        from audiorep.training import loaders
        from audiorep.training.module import Trainee

        labels = labels_of(examples)
        self._settings, self._folder = settings, folder
        self._clips = loaders.clips_of(settings, examples, labels, "train")
        self._sampler = EpochSampler(self._clips, settings.seed, settings.balance == "sampling")
        nothing = loaders.clips_of(settings, [], labels, "valid")
        self._loader = loaders.make_loaders(settings, self._clips, nothing, self._sampler)[0]
        self._trainee = Trainee(settings, labels, len(self._loader), {})

    def on_ready_tensors(self, steps: int) -> float:
        """Seconds a clip of forward, backward and optimizer step alone."""
        import torch

        batch = next(iter(self._loader))
        spectrogram, targets = self._trainee.prepare(*batch)
        optimizer = self._trainee.configure_optimizers()["optimizer"]
        self._trainee.train()
        for step in range(steps + 3):
            if step == 3:
                start = time.perf_counter()
            logits = self._trainee.network(spectrogram)
            loss = torch.stack([self._trainee.loss(values, targets[head], head) for head, values in logits.items()]).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._trainee.parameters(), self._settings.gradient_clip)
            optimizer.step()
        return (time.perf_counter() - start) / (steps * len(spectrogram))

    def from_clips(self, steps: int) -> float:
        """Seconds a clip of the trainer as `audiorep train` runs it: cuts, augmentation, front end, average, logs."""
        from lightning.pytorch.callbacks import Callback

        from audiorep.training import fit

        ends: list[float] = []

        class Clock(Callback):
            def on_train_batch_end(self, *given: object) -> None:
                ends.append(time.perf_counter())

        trainer = fit.make_trainer(self._settings, self._folder, fit.Reports(), False)
        trainer.callbacks.append(Clock())  # type: ignore[attr-defined]
        trainer.fit_loop.max_epochs = 1
        trainer.limit_train_batches = min(steps + 3, len(self._loader))
        trainer.fit(self._trainee, self._loader)
        counted = ends[2:]
        return (counted[-1] - counted[0]) / ((len(counted) - 1) * self._loader.batch_size)  # type: ignore[operator]


def front_end(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of one window's log-mel: librosa, and each form in each runtime, in turns with pauses between."""
    import librosa
    import torch

    from audiorep.models.front_end import FRONT_ENDS, LogMel, forms

    found = {}
    for name, seconds in (("vggsound", 5.12), ("speech_commands", 1.024), ("light", 5.0), ("yamnet", 0.975)):
        config = FRONT_ENDS[name]
        generator = np.random.default_rng(0)
        waveform = (0.1 * generator.standard_normal((1, config.samples(seconds)))).astype(np.float32)
        lowest, highest = config.lowest_hz, config.top_hz
        mel = librosa.filters.mel(
            sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.mels, fmin=lowest, fmax=highest, htk=True, norm=None
        )
        settings = {"n_fft": config.n_fft, "hop_length": config.hop, "win_length": config.window, "pad_mode": "constant"}
        settings["center"] = config.centered
        ours, double = LogMel(config, torch.float32).eval(), LogMel(config).eval()

        calls: dict[str, Callable[[], Any]] = {
            "librosa": lambda w=waveform, m=mel, s=settings: np.log(m @ np.abs(librosa.stft(w[0], **s)) + 1e-6),  # type: ignore[misc]
            "torch fft": lambda f=ours, w=waveform: f(torch.from_numpy(w)),  # type: ignore[misc]
        }
        expected = double(torch.from_numpy(waveform)).numpy()
        errors = {}
        for form in forms(config):
            content = _front_end_as_onnx(double.exportable(form).eval(), waveform.shape[1])
            for runtime, load in (("onnx", _in_onnx), ("openvino", _in_openvino)):
                run = load(content)
                errors[f"{runtime} {form}"] = float(np.abs(run(waveform) - expected).max())
                calls[f"{runtime} {form}"] = lambda r=run, w=waveform: r(w)  # type: ignore[misc]
        times = _in_turns(calls, arguments.rounds * 8)
        found[name] = {
            key: {
                "ms_median": 1e3 * timing.median(taken),
                "ratio_median": timing.speed(times["librosa"], taken).median,
                "largest_difference": errors.get(key),
            }
            for key, taken in times.items()
        }
    return found


def windows(arguments: argparse.Namespace) -> dict[str, Any]:
    """Windows of 5 s a second of the bundled arin_nano from decoded sound, front end and network, sixteen in a call."""
    from audiorep.predict.classifier import Classifier

    found = {}
    generator = np.random.default_rng(0)
    for runtime in ("onnx", "openvino"):
        classifier = Classifier.load(None, None, runtime)
        sound = (0.1 * generator.standard_normal((16, 5 * classifier.info.sample_rate - 1))).astype(np.float32)
        times = _in_turns({runtime: partial(classifier.scores, sound)}, arguments.rounds * 8)[runtime]
        found[f"{runtime}_windows_per_second"] = len(sound) / timing.median(times)
    return found


def zeros(arguments: argparse.Namespace) -> dict[str, Any]:
    """One window through the bundled model as it is and with the smallest weights of its pointwise convolutions set to zero."""
    import onnx
    from onnx import numpy_helper

    from audiorep.shipped import SHIPPED

    def pruned(keep: Callable[[np.ndarray], np.ndarray]) -> bytes:
        model = onnx.load(SHIPPED["esc50"].file)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 4 and list(tensor.dims[2:]) == [1, 1] and tensor.dims[1] % 4 == 0:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(np.where(keep(np.abs(values)), values, 0), tensor.name))
        return bytes(model.SerializeToString())

    def two_of_four(sizes: np.ndarray) -> np.ndarray:
        groups = sizes.reshape(-1, 4)
        return (groups.argsort(1).argsort(1) >= 2).reshape(sizes.shape)

    forms = {"dense": pruned(lambda sizes: sizes >= 0), "two of four zero": pruned(two_of_four)}
    for share in (0.75, 0.95):
        forms[f"{share:.0%} zero"] = pruned(partial(_largest, share))
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 39_999)).astype(np.float32)
    found: dict[str, Any] = {}
    for runtime, load in (("onnx", _in_onnx), ("openvino", _in_openvino)):
        calls: dict[str, Callable[[], Any]] = {name: partial(load(content), waveform) for name, content in forms.items()}
        times = _in_turns(calls, 10 * arguments.rounds)
        found[runtime] = {
            name: {
                "ms_median": 1e3 * timing.median(taken),
                "ratio_median": timing.speed(times["dense"], taken).median,
            }
            for name, taken in times.items()
        }
    return found


def _largest(share: float, sizes: np.ndarray) -> np.ndarray:
    return sizes > np.quantile(sizes, share)


def _front_end_as_onnx(module: Any, samples: int) -> bytes:
    import torch

    from audiorep.export.onnx import to_onnx

    return to_onnx(module, (torch.zeros(1, samples),), ["log_mel"], input_names=["waveform"]).SerializeToString()


def _in_onnx(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    return lambda waveform: session.run(None, {"waveform": waveform})[0]


def _in_openvino(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    from audiorep.runtimes.openvino import core

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core().compile_model(core().read_model(content), "CPU", settings).create_infer_request()
    return lambda waveform: request.infer([waveform])[0].copy()


def tagger_speed(arguments: argparse.Namespace) -> dict[str, Any]:
    """Decoded windows to scores: the tagger in ONNX Runtime, against YAMNet's own file in LiteRT, which takes one at a time."""
    from ai_edge_litert.interpreter import Interpreter

    import audiorep

    found: dict[str, Any] = {}
    for threads in (1, 2):
        classifier = audiorep.load("nano", threads=threads)
        size = classifier.info.window_samples
        windows = np.random.default_rng(0).normal(0, 0.1, (64, size)).astype(np.float32)
        theirs = Interpreter(model_path=str(arguments.yamnet), num_threads=threads)
        theirs.allocate_tensors()
        (about,) = theirs.get_input_details()
        assert tuple(about["shape"]) == (1, size)

        def invoke(windows: np.ndarray = windows, theirs: Any = theirs, place: int = about["index"]) -> None:
            for window in windows:
                theirs.set_tensor(place, window[None])
                theirs.invoke()

        def one_by_one(windows: np.ndarray = windows, session: Any = classifier.session) -> None:
            for window in windows:
                session(window[None])

        times = _in_turns(
            {"yamnet": invoke, "nano one by one": one_by_one, "nano together": partial(classifier.session, windows)},
            arguments.rounds,
        )
        found[f"{threads}_threads"] = {
            "windows_per_second": {name: len(windows) / timing.median(values) for name, values in times.items()},
            "times_as_fast": {n: asdict(timing.speed(times["yamnet"], v)) for n, v in times.items() if n != "yamnet"},
        }
    return found


def _in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    """The times of each call, with pauses between."""
    return dict(zip(calls, timing.in_turns([timing.turn(call) for call in calls.values()], rounds, PAUSE), strict=True))


MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "startup": startup,
    "clips": clips,
    "long": long,
    "pipeline": pipeline,
    "shards": shards,
    "front_end": front_end,
    "windows": windows,
    "zeros": zeros,
    "tagger_speed": tagger_speed,
}


def main() -> None:
    """Runs one measurement and writes its result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--data", type=Path, help="ESC-50's folder, for clips, pipeline and shards")
    parser.add_argument("--yamnet", type=Path, help="YAMNet's published file, for tagger_speed")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--scratch", type=Path, help="where the long recording is made (7 GB)")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "esc50_nano.toml")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, default=0, help="processes that load clips, in pipeline and shards")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.measure in ("clips", "pipeline", "shards") and not (arguments.data and arguments.data.is_dir()):
        parser.error(f"{arguments.measure} needs --data ESC50_FOLDER")
    result = MEASURES[arguments.measure](arguments)
    shown = [arguments.measure] + (["--data", "ESC50_FOLDER"] if arguments.data else [])
    shown += ["--yamnet", arguments.yamnet.name] if arguments.yamnet else []
    shown += ["--workers", str(arguments.workers)] if arguments.workers else []
    command = " ".join(["python experiments/measure.py", *shown])
    record = {"measure": arguments.measure, "command": command, "result": result, "environment": environment()}
    write_json(ROOT / "results" / f"{arguments.measure}.json", record)
    for key, value in result.items():
        print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")


if __name__ == "__main__":
    main()
