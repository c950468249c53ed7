"""The front end equals librosa's, in every setting, in both of its forms."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import soundfile
import torch

from audiorep.errors import ConfigError
from audiorep.models.front_end import FRONT_ENDS, LOG_OFFSET, EdgeFrames, FrontEndConfig, LogMel, repeat_last


def librosa_log_mel(waveform: np.ndarray, config: FrontEndConfig) -> np.ndarray:
    sizes = {"n_fft": config.n_fft, "hop_length": config.hop, "win_length": config.window}
    magnitude = np.abs(librosa.stft(waveform.astype(np.float64), window="hann", center=True, pad_mode="constant", **sizes))
    mel = librosa.filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.mels, htk=True, norm=None, dtype=np.float64
    )
    return np.log(mel @ magnitude + LOG_OFFSET).T


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_log_mel_equals_librosa_on_noise_and_tones(name):
    config = FRONT_ENDS[name]
    samples = config.samples(1.5)
    noise = 0.1 * np.random.default_rng(0).standard_normal(samples)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / config.sample_rate) + 1e-3 * noise
    for waveform in (noise, tone):
        waveform = waveform.astype(np.float32)
        ours = LogMel(config)(torch.from_numpy(waveform)[None])[0, 0].numpy()
        assert np.abs(ours - librosa_log_mel(waveform, config)).max() < 1e-4


@pytest.mark.parametrize("name", ["vggsound", "speech_commands", "light"])
def test_log_mel_equals_librosa_on_real_clips(name, audiorep_data):
    config = FRONT_ENDS[name]
    for path in sorted((audiorep_data / "esc50" / "audio").glob("*.ogg"))[::100]:
        waveform, _ = soundfile.read(path, dtype="float32", frames=32_000)
        ours = LogMel(config)(torch.from_numpy(waveform)[None])[0, 0].numpy()
        assert np.abs(ours - librosa_log_mel(waveform, config)).max() < 1e-4, path.name


def test_silence_is_the_logarithm_of_the_offset():
    spectrogram = LogMel(FRONT_ENDS["vggsound"])(torch.zeros(1, 16_000))
    assert torch.allclose(spectrogram, torch.full_like(spectrogram, float(np.log(LOG_OFFSET))))


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
def test_exportable_form_has_the_same_frames_and_values(name, samples):
    front_end = LogMel(FRONT_ENDS[name])
    waveform = 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    expected, found = front_end(waveform), front_end.exportable()(waveform)
    assert found.shape == expected.shape == (2, 1, front_end.config.frames(samples), front_end.config.mels)
    assert (found - expected).abs().max() < 1e-4


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
