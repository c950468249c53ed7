"""A page of sounds to look at and to hear, in one file: spectrograms and players, nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import soundfile

WIDTH, HEIGHT = 360, 96  # pixels of a picture
FFT = 1024
RANGE_DB = 70.0  # below the loudest, which is black
COLOURS = np.array([(10, 7, 30), (70, 16, 110), (165, 44, 96), (240, 110, 50), (252, 240, 170)], float)
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
body { color: #222; background: #fff }
h1 { font-size: 1.3rem }
li { display: flex; gap: 1rem; align-items: center; margin: .6rem 0; padding: .6rem }
li { border: 1px solid #ddd; border-radius: .5rem }
ol { list-style: none; padding: 0 }
li > b { width: 5rem; text-align: right; font-variant-numeric: tabular-nums }
img { width: 360px; height: 96px; border-radius: .25rem; flex: none }
audio { width: 100%; height: 2.2rem; display: block; margin-top: .3rem }
li > div { flex: 1; min-width: 0; overflow-wrap: anywhere }
@media (max-width: 45rem) { li { flex-wrap: wrap } li > b { width: auto } }
@media (prefers-color-scheme: dark) { body { color: #eee; background: #16161a } li { border-color: #444 } }
"""


@dataclass(frozen=True, eq=False)
class Sound:
    """A row of the page."""

    caption: str
    about: str
    samples: np.ndarray | None
    """(N,) floats; None: it cannot be heard."""
    sample_rate: int
    problem: str = ""
    """Why it cannot be heard."""


def of_sounds(title: str, sounds: Sequence[Sound]) -> str:
    """The page in HTML."""
    rows = "\n".join(map(_row, sounds))
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n<h1>{html.escape(title)}</h1>\n<ol>\n{rows}\n</ol>\n</html>\n"
    )


def _row(sound: Sound) -> str:
    about = f"{html.escape(sound.about)}"
    caption = f"<b>{html.escape(sound.caption)}</b>"
    if sound.samples is None:
        return f"<li>{caption}<div>{about}<br>{html.escape(sound.problem)}</div></li>"
    picture = base64.b64encode(png(spectrogram(sound.samples))).decode()
    file = io.BytesIO()
    soundfile.write(file, sound.samples, sound.sample_rate, "PCM_16", format="FLAC")
    player = (
        f'<audio controls preload="none" src="data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"></audio>'
    )
    return f'<li>{caption}<img alt="spectrogram" src="data:image/png;base64,{picture}"><div>{about}{player}</div></li>'


def spectrogram(samples: np.ndarray) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) bytes: time to the right, frequency upwards on a scale like that of the ear, louder is brighter."""
    padded = np.pad(samples, (FFT // 2, FFT // 2 + max(0, FFT - len(samples))))
    starts = np.linspace(0, len(padded) - FFT, WIDTH).astype(int)
    frames = padded[starts[:, None] + np.arange(FFT)] * np.hanning(FFT)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # (WIDTH, bins)
    edges = (FFT // 2) * (np.expm1(np.linspace(0, np.log1p(30.0), HEIGHT + 1)) / 30.0)
    bands = np.stack([power[:, int(low) : max(int(low) + 1, int(high))].mean(1) for low, high in pairwise(edges)])
    level = 10 * np.log10(np.maximum(bands, 1e-12))
    bright = np.clip((level - level.max()) / RANGE_DB + 1, 0, 1)[::-1]
    steps = bright * (len(COLOURS) - 1)
    channels = [np.interp(steps, np.arange(len(COLOURS)), COLOURS[:, k]) for k in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of (H, W, 3) bytes (RFC 2083)."""
    height, width, _ = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # a filter of none a row
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body
