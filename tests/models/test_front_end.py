"""The front end equals librosa's, in every setting, in both of its forms."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import soundfile
import torch

from audiorep.errors import ConfigError
from audiorep.models.front_end import FRONT_ENDS, EdgeFrames, FrontEndConfig, LogMel, forms, frames_of, repeat_last

PLAIN = [name for name in FRONT_ENDS if name != "yamnet"]


def librosa_log_mel(waveform: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop, "win_length": config.window}
    magnitude = np.abs(librosa.stft(waveform.astype(np.float64), window="hann", center=True, pad_mode="constant", **sizes))
    mel = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.mels, htk=True, norm=None, dtype=np.float64
    )
    return np.log(mel @ magnitude + 1e-6).T


def yamnet_log_mel(waveform: np.ndarray) -> np.ndarray:
    """YAMNet's features.py and TensorFlow's linear_to_mel_weight_matrix, in their words."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), 400)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    magnitude = np.abs(np.fft.rfft(frames * window, 512))
    edges = np.linspace(*1127 * np.log(1 + np.array([125.0, 7500.0]) / 700), 66)
    bins = 1127 * np.log(1 + np.linspace(0, 8000, 257)[1:] / 700)  # without the constant part
    triangles = [np.interp(bins, edges[band : band + 3], [0, 1, 0]) for band in range(64)]
    return np.log(magnitude[:, 1:] @ np.transpose(triangles) + 0.001)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_log_mel_equals_librosa_on_noise_and_tones(name):
    config = FRONT_ENDS[name]
    samples = config.samples(1.5)
    noise = 0.1 * np.random.default_rng(0).standard_normal(samples)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / config.sample_rate) + 1e-3 * noise
    for waveform in (noise, tone):
        waveform = waveform.astype(np.float32)
        ours = LogMel(config)(torch.from_numpy(waveform)[None])[0, 0].numpy()
        assert np.abs(ours - librosa_log_mel(waveform, config)).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vggsound", "speech_commands", "light"])
def test_log_mel_equals_librosa_on_real_clips(name, audiorep_data):
    config = FRONT_ENDS[name]
    for path in sorted((audiorep_data / "esc50" / "audio").glob("*.ogg"))[::100]:
        waveform, _ = soundfile.read(path, dtype="float32", frames=32_000)
        ours = LogMel(config)(torch.from_numpy(waveform)[None])[0, 0].numpy()
        assert np.abs(ours - librosa_log_mel(waveform, config)).max() < 1e-4, path.name


def test_silence_is_the_logarithm_of_the_offset():
    spectrogram = LogMel(FRONT_ENDS["vggsound"])(torch.zeros(1, 16_000))
    assert torch.allclose(spectrogram, torch.full_like(spectrogram, float(np.log(1e-6))))


@pytest.mark.parametrize("samples", [400, 559, 560, 15_600, 16_001])
def test_yamnets_preset_equals_its_own_front_end(samples):
    waveform = (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)
    front_end, expected = LogMel(FRONT_ENDS["yamnet"]), yamnet_log_mel(waveform)
    assert FRONT_ENDS["yamnet"].frames(samples) == len(expected)
    for form in (front_end, *map(front_end.exportable, forms(front_end.config))):
        found = form(torch.from_numpy(waveform)[None])
        np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-4)


def test_yamnets_windows_are_patches_of_96_frames_and_short_sounds_have_one_frame():
    config = FRONT_ENDS["yamnet"]
    assert (config.samples(0.975), config.frames(15_600), config.frames(15_599)) == (15_600, 96, 95)
    sound = torch.randn(1, 399)
    padded = torch.nn.functional.pad(sound, (0, 1))
    assert torch.equal(LogMel(config)(sound), LogMel(config)(padded))
    assert frames_of(config, torch.tensor([0, 399, 560, 9_999]), 720).tolist() == [1, 1, 2, 3]


@pytest.mark.parametrize("name", PLAIN)
def test_models_of_before_the_later_settings_read_as_they_did_and_are_written_so(name):
    config = FRONT_ENDS[name]
    assert list(config.as_dict()) == ["sample_rate", "window_ms", "hop_ms", "n_fft", "mels"]
    assert FrontEndConfig(**config.as_dict()) == config
    assert (config.samples(1), config.frames(config.samples(1))) == (
        config.sample_rate - 1,
        -(-config.sample_rate // config.hop),
    )


def test_settings_other_than_the_defaults_are_written_down():
    assert FrontEndConfig(**FRONT_ENDS["yamnet"].as_dict()) == FRONT_ENDS["yamnet"]
    assert FrontEndConfig(lowest_hz=50.0).as_dict()["lowest_hz"] == 50.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"lowest_hz": -1.0}, "lowest_hz -1 and highest_hz 0: the first must be the lower"),
        ({"lowest_hz": 8000.0}, "the first must be the lower, both from 0 to half of 16000 Hz"),
        ({"highest_hz": 8001.0}, "both from 0 to half"),
        ({"lowest_hz": 500, "highest_hz": 400}, "lowest_hz 500 and highest_hz 400"),
        ({"highest_hz": float("nan")}, "highest_hz is nan; a number is needed"),
        ({"lowest_hz": "0"}, "lowest_hz is '0'; a number is needed"),
        ({"slopes": "bark"}, "slopes is 'bark'; allowed are hertz, mel"),
        ({"slopes": ["mel"]}, r"slopes is \['mel'\]; allowed are hertz, mel"),
        ({"log_offset": 0}, "log_offset is 0; 1e-30 to 1 is allowed"),
        ({"log_offset": 2.0}, "log_offset is 2"),
        ({"centered": 1}, "centered is 1; true or false is needed"),
        ({"centered": None, "log_offset": "x"}, "log_offset is 'x'.*centered is None"),
    ],
)
def test_later_settings_are_checked(settings, reason):
    with pytest.raises(ConfigError, match=reason):
        FrontEndConfig(**settings)


@pytest.mark.parametrize(
    ("name", "seconds", "frames"),
    [("vggsound", 5.12, 512), ("epic_kitchens", 2.08, 416), ("speech_commands", 1.024, 512), ("urbansound8k", 4.16, 416)],
)
def test_a_clip_one_sample_short_yields_the_papers_frames(name, seconds, frames):
    config = FRONT_ENDS[name]
    samples = config.samples(seconds)
    assert LogMel(config)(torch.zeros(2, samples)).shape == (2, 1, frames, 128)
    assert LogMel(config)(torch.zeros(2, samples + 1)).shape[2] == frames + 1


@pytest.mark.parametrize("name", FRONT_ENDS)
@pytest.mark.parametrize("samples", [1, 100, 7_999, 16_000, 40_001])
@pytest.mark.parametrize("form", ["radix_4", "halves"])
def test_exportable_forms_have_the_same_frames_and_values(name, samples, form):
    front_end = LogMel(FRONT_ENDS[name])
    waveform = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    expected, found = front_end(waveform), front_end.exportable(form)(waveform)
    assert found.shape == expected.shape == (2, 1, front_end.config.frames(samples), front_end.config.mels)
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize(("window", "hop", "n_fft"), [(12, 4, 12), (16, 12, 20), (8, 20, 24), (20, 8, 28), (4, 4, 4)])
@pytest.mark.parametrize("centered", [True, False])
def test_four_phases_give_every_bin_once(window, hop, n_fft, centered):
    """Also where n_fft/8 is no whole number, or the hop is longer than the window."""
    config = FrontEndConfig(8000, window / 8, hop / 8, n_fft, mels=n_fft // 2, log_offset=1e-3, centered=centered)
    waveform = torch.randn(3, 203, generator=torch.Generator().manual_seed(0))
    for samples in (1, window, 203):
        expected, found = LogMel(config)(waveform[:, :samples]), LogMel(config).exportable("radix_4")(waveform[:, :samples])
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize("settings", [{"window_ms": 20.125}, {"hop_ms": 10.125}, {"n_fft": 322}])
def test_what_four_does_not_divide_is_folded_alone(settings):
    config = FrontEndConfig(**{"window_ms": 20, "hop_ms": 10, "n_fft": 324, "mels": 32, **settings})
    assert forms(config) == ["halves"]
    with pytest.raises(ConfigError, match="its form 'radix_4' is none of halves"):
        LogMel(config).exportable("radix_4")


def test_exportable_form_has_no_transform_operator():
    program = torch.export.export(LogMel(FRONT_ENDS["light"]).exportable(), (torch.zeros(2, 8000),))
    names = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in names if "fft" in name or "stft" in name]


def test_log_mel_stays_exact_under_autocast():
    front_end, waveform = LogMel(FRONT_ENDS["light"]), 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    expected = front_end(waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front_end(waveform), expected)


def test_all_wrong_settings_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        FrontEndConfig(sample_rate=16_000, window_ms=300, hop_ms=0, n_fft=2048, mels=5000)
    assert all(word in str(caught.value) for word in ("n_fft", "hop_ms", "mels"))


def test_short_clips_repeat_their_last_frame_alone_and_in_a_batch():
    config = FrontEndConfig(4000, 32, 16, 128, 16)
    log_mel, sound = LogMel(config), torch.randn(1, 700, generator=torch.Generator().manual_seed(0))
    short = log_mel(sound)  # (1, 1, 11, F)
    expected = np.pad(short.numpy(), ((0, 0), (0, 0), (0, 21), (0, 0)), mode="edge")
    np.testing.assert_array_equal(EdgeFrames(32)(short).numpy(), expected)
    padded = torch.nn.functional.pad(sound, (0, 2047 - 700))
    batch = torch.cat([padded, torch.randn(1, 2047)])
    together = repeat_last(log_mel(batch), 1 + torch.tensor([700, 2047]) // config.hop)
    np.testing.assert_allclose(together[:1].numpy(), expected, atol=1e-5)
    assert torch.equal(together[1:], log_mel(batch)[1:])
    long = log_mel(torch.randn(1, 4000))
    assert torch.equal(EdgeFrames(32)(long), long)
