"""The source that a user names in words."""

from __future__ import annotations

import re
from pathlib import Path

from audiorep.audio.decoders import RATES
from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.listen.address import Address
from audiorep.listen.microphones import Microphone
from audiorep.listen.raw import FORMATS, StandardInput
from audiorep.listen.sound_files import SoundFile
from audiorep.listen.sources import Source

_NAMED = re.compile(r"([\w-]{1,60})=(.+)", re.DOTALL)


def source_of(
    text: str,
    model_rate: int,
    rate: int | None = None,
    channels: int = 1,
    form: str = "s16le",
    realtime: bool = False,
    reconnect: bool = True,
) -> Source:
    """The source that a user names: `-`, `mic` or `mic:WHICH`, an address with `://`, or else a file.

    Args:
        text: what the user gave; `NAME=` before it gives it a name.
        model_rate: Hz at which addresses and files are read.
        rate: Hz of raw samples on standard input; None: a WAV stream tells its own.
        channels: of raw samples.
        form: of raw samples, a key of `FORMATS`.
        realtime: whether files take as long as they last.
        reconnect: whether an address or a microphone that ends, fails or falls silent is tried again.

    Raises:
        ConfigError: a rate, number of channels or form that is not allowed.
        MissingExtraError: the package for microphones is not installed.
        BrokenPackageError: the system's library for them is not.
    """
    if form not in FORMATS:
        raise ConfigError(f"raw samples of {visible(form)}: known are {', '.join(FORMATS)}.")
    if not 1 <= channels <= 1024 or (rate is not None and not RATES[0] <= rate <= RATES[1]):
        raise ConfigError(f"raw samples of {rate} Hz in {channels} channels: {RATES[0]} to {RATES[1]} Hz, 1 to 1024 channels.")
    name, text = _named(text)
    source: Source
    if text == "-":
        source = StandardInput(rate, channels, form)
    elif text == "mic" or text.startswith("mic:"):
        source = Microphone(text[4:], reconnect)
    elif "://" in text:
        source = Address(text, model_rate, reconnect)
    else:
        source = SoundFile(Path(text), model_rate, realtime)
    if name:
        source.name = name
    return source


def _named(text: str) -> tuple[str, str]:
    """The name before a source, and the source; a file whose name looks like both is a file."""
    found = _NAMED.fullmatch(text)
    return ("", text) if found is None or Path(text).exists() else (found[1], found[2])
