"""Sound files are read in JavaScript as in Python: their samples, their channels, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support import SAMPLES
from support.javascript import evaluated, needs_node

from audiorep import audio
from audiorep.audio.channels import Mixer
from audiorep.errors import AudioError

pytestmark = needs_node

READ = """
const { openSound, headerRate } = await page("decode.js");
const found = [];
for (const { path, name } of values) {
  const file = new File([fs.readFileSync(path)], name);
  try {
    const sound = await openSound(file, async () => { throw new Error(`other, ${await headerRate(file)} Hz`); });
    const blocks = [];
    for (let first = 0; first < sound.frames; first += 1000) blocks.push(await sound.read(first, 1000));
    const channels = blocks[0].map((_, k) => blocks.flatMap((block) => [...block[k]]));
    found.push({ rate: sound.rate, channels });
  } catch (error) {
    found.push(error.message);
  }
}
return found;
"""


def read_all(folder: Path, *paths: Path) -> list[Any]:
    return evaluated(folder, READ, [{"path": str(path), "name": path.name} for path in paths])


def test_wav_files_of_every_encoding_hold_the_samples_that_python_reads(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, (2500, 2))
    encodings = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
    paths = [tmp_path / f"{kind}_{form}.wav" for kind in encodings for form in ("WAV", "WAVEX", "RF64")]
    for path in paths:
        kind, form = path.stem.rsplit("_", 1)
        soundfile.write(path, samples, 22_050, kind, format=form)
    soundfile.write(tmp_path / "big.wav", samples, 22_050, "PCM_24", endian="BIG")
    paths.append(tmp_path / "big.wav")
    for path, found in zip(paths, read_all(tmp_path, *paths), strict=True):
        expected, rate = soundfile.read(path, dtype="float32")
        assert found["rate"] == rate, path
        np.testing.assert_array_equal(np.array(found["channels"], np.float32).T, expected, err_msg=path.name)


def test_flac_files_hold_the_samples_that_python_reads(tmp_path):
    generator = np.random.default_rng(0)
    time = np.arange(30_000) / 22_050
    tone = 0.5 * np.sin(2 * np.pi * 300 * time)
    sounds = {
        "tone": np.stack([tone, 0.8 * tone + 0.001 * generator.standard_normal(30_000)], 1),
        "noise": generator.uniform(-1, 1, (30_000, 3)),
        "steps": np.repeat(generator.uniform(-1, 1, 30), 1000)[:, None],
        "opposite": np.stack([tone, -tone], 1),
        "coarse": np.round(tone * 64)[:, None] / 64,
        "short": tone[:17, None],
    }
    paths = []
    for name, samples in sounds.items():
        for kind in ("PCM_S8", "PCM_16", "PCM_24"):
            for level in (0.0, 0.5, 1.0):
                paths.append(tmp_path / f"{name}_{kind}_{level}.flac")
                soundfile.write(paths[-1], samples, 22_050, kind, compression_level=level)
    paths += sorted(SAMPLES.glob("c*.flac"))
    for path, found in zip(paths, read_all(tmp_path, *paths), strict=True):
        expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
        assert found["rate"] == rate, path
        np.testing.assert_array_equal(np.array(found["channels"], np.float32).T, expected, err_msg=path.name)


def test_damaged_flac_files_are_refused_in_one_sentence(tmp_path):
    whole = (SAMPLES / "crow.flac").read_bytes()
    flipped = bytearray(whole)
    flipped[50_000] ^= 4
    cases = {"cut.flac": whole[:50_000], "flipped.flac": flipped, "head.flac": whole[:60], "tagged.flac": tagged(whole)}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    *refused, fine = read_all(tmp_path, *(tmp_path / name for name in cases))
    assert refused[0].startswith("cut.flac is damaged: its header promises 5.00 s, 2.")
    assert refused[1].startswith("flipped.flac is damaged: its header promises 5.00 s, 2.")
    assert refused[2].startswith(("head.flac is damaged", "other"))
    assert len(fine["channels"][0]) == 80_000


def tagged(content: bytes) -> bytes:
    """A file behind a tag of ID3 of 1024 bytes."""
    return b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024) + content


def test_the_rate_of_other_files_is_found_in_their_headers(tmp_path):
    rate, samples = 22_050, np.random.default_rng(0).uniform(-0.5, 0.5, 30_000)
    for name, kind in {"a.ogg": "OGG", "a.mp3": "MP3"}.items():
        soundfile.write(tmp_path / name, samples, rate, format=kind)
    soundfile.write(tmp_path / "a.opus", samples, 48_000, "OPUS", format="OGG")
    soundfile.write(tmp_path / "law.wav", samples, rate, "ULAW")
    (tmp_path / "tagged.mp3").write_bytes(tagged((tmp_path / "a.mp3").read_bytes()))
    names = ("a.ogg", "a.mp3", "tagged.mp3", "law.wav", "a.opus")
    found = read_all(tmp_path, *(tmp_path / name for name in names))
    assert found == [*[f"other, {rate} Hz"] * 4, "other, 48000 Hz"]


def test_damaged_wav_files_are_refused_in_one_sentence(tmp_path, tone):
    whole = tone("whole.wav", seconds=1.0).read_bytes()
    cases = {
        "cut.wav": whole[:10_044],
        "none.wav": whole[:44].replace(struct.pack("<I", 32_000), bytes(4)),
        "nothing.wav": whole[:36],
        "empty.wav": b"",
        "fast.wav": whole.replace(struct.pack("<I", 16_000), struct.pack("<I", 0xFFFF_FFF0), 1),
        "short_format.wav": whole[:16] + struct.pack("<I", 2) + whole[20:],
        "live.wav": whole[:40] + struct.pack("<I", 0xFFFF_FFFF) + whole[44:],
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    *refused, live = read_all(tmp_path, *(tmp_path / name for name in cases))
    assert refused[0].startswith("cut.wav is damaged: its header promises 1.00 s, 0.31 s can be read")
    assert refused[1] == "none.wav has no samples. Re-export the file."
    assert refused[2] == "nothing.wav is damaged: it has no samples. Re-copy the file."
    assert refused[3] == "empty.wav is empty. Re-copy the file."
    assert refused[4].startswith("fast.wav has 4294967280 samples a second by its header; 100 to 10000000 are allowed.")
    assert refused[5] == "short_format.wav is damaged: it has no samples. Re-copy the file."
    assert len(live["channels"][0]) == 16_000  # of a recorder that could not seek back


MIXED = """
const { Mixer } = await page("channels.js");
const mixer = new Mixer("a.wav");
try {
  const blocks = values.map((block) => [...mixer.mix(block.map((channel) => new Float32Array(channel)))]);
  return { blocks, notes: mixer.notes(1000) };
} catch (error) {
  return error.message;
}
"""


def test_channels_are_mixed_as_in_python(tmp_path):
    generator = np.random.default_rng(0)
    left, right = generator.uniform(-0.5, 0.5, (2, 1000)).astype(np.float32)
    for blocks in (
        [np.stack([left, right])],
        [np.stack([left, -left]), np.stack([left, right])],
        [np.stack([left, -left, 0 * left, 0.1 * left])],
        [np.stack([1e-5 * left, -1e-5 * left])],
    ):
        mixer = Mixer(Path("a.wav"), len(blocks[0]), "mean")
        expected = [mixer.mix(block.T) for block in blocks]
        found = evaluated(tmp_path, MIXED, [block.tolist() for block in blocks])
        np.testing.assert_allclose(found["blocks"], expected, atol=1e-7)
        assert found["notes"] == list(mixer.notes(1000))


def test_samples_that_are_no_numbers_are_refused_as_in_python(tmp_path):
    for given, value in ((100.0, 100.0), (1e39, np.inf)):  # JSON has no infinity; float32 makes one of the large number
        with pytest.raises(AudioError) as refusal:
            audio.checked(np.array([0.0, value], np.float32), "a.wav")
        assert evaluated(tmp_path, MIXED, [[[0.0, given]]]) == str(refusal.value)
