"""Finds the sound files that a user names by files, folders and patterns, and the files that it passes over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from audiorep.audio import pipes

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64"})
"""Suffixes of sound files in a folder or a pattern; a file that the user names is always tried."""

_OTHERS = """
    3ga 3gp 8svx aa aac aax ac3 adts aifc amr ape asf avi awb avr bwf dff dsf dss dts dtshd eac3 ec3 f32 f4a
    flv fssd gsm htk iff
    ircam l16 lpcm m2a m4a m4b m4p m4r m4v mat mid midi mka mkv mlp mogg mov mp1 mp2 mp4 mpa mpc mpeg mpg mpga mts nist nsp
    ogv ogx
    paf pcm pvf qcp qoa ra ram raw rm s16 s24 s32 sam sd2 sds sf sln snd sou spc sph spx svx tak ts tta u8 ul vob voc vox w4a
    wav64
    wave weba webm wma wmv wv wve xa xi
"""
OTHER_SUFFIXES = frozenset(f".{name}" for name in _OTHERS.split())
"""Suffixes of files that may hold sound but are not read. `find` reports them, and files without a suffix."""

_MAX_NAMES = 5  # of files in the sentence on those passed over


def find(paths: Iterable[str | os.PathLike[str]], on_passed_over: Callable[[Path], None] = lambda path: None) -> Iterator[Path]:
    """Every sound file in `paths`: files as given, folders searched recursively, patterns with `*`, `?`, `[` expanded.

    Links to folders are followed, but a folder is not searched again below itself. `-` is standard input. A path that does
    not exist or cannot be opened, a broken link, and a folder or pattern without sound files are returned as given: the code
    that reads them reports the error. `on_passed_over` is called with each file in a folder or pattern that may hold sound in
    another format.
    """
    for given in paths:
        path = Path(given)
        if path == pipes.STDIN and os.fspath(given) != "-":
            yield path.absolute()  # ./-
        else:
            yield from _search(path, on_passed_over) or [path]


def describe_passed_over(paths: Sequence[Path]) -> str:
    """A sentence for the user on files that were passed over."""
    names = ", ".join(str(path) for path in paths[:_MAX_NAMES])
    more = f" and {len(paths) - _MAX_NAMES} more" if len(paths) > _MAX_NAMES else ""
    files = "1 file of another format was" if len(paths) == 1 else f"{len(paths)} files of other formats were"
    return f"{files} passed over: {names}{more}. Convert them, or give their own paths to try them as they are."


def _search(given: Path, on_passed_over: Callable[[Path], None]) -> list[Path]:
    try:
        if given == pipes.STDIN:
            return [given]
        if given.is_dir():
            candidates: Iterable[Path] = _walk(given, ())
        elif os.path.lexists(given) or not any(mark in str(given) for mark in "*?["):
            return [given]
        else:
            root = Path(given.anchor) if given.is_absolute() else Path()
            parts = given.relative_to(root).parts if given.is_absolute() else given.parts
            without_repeats = [
                part for part, before in zip(parts, ("", *parts), strict=False) if part != "**" or before != "**"
            ]
            candidates = _expand(root, without_repeats, ())
        return _sound_files(set(candidates), given, on_passed_over)
    except (OSError, ValueError):  # the name is too long, or the folder cannot be entered: the reader reports it
        return [given]


def _sound_files(candidates: Iterable[Path], given: Path, on_passed_over: Callable[[Path], None]) -> list[Path]:
    """The sound files of `candidates`, sorted; hidden files only if `given` names the hidden part of their path."""
    sounds = []
    for path in sorted(candidates):
        if any(part.startswith(".") and part not in given.parts for part in path.parts):
            continue
        suffix = path.suffix.lower()
        if path.is_dir():
            if not os.access(path, os.R_OK | os.X_OK):
                sounds.append(path)
        elif (suffix in SUFFIXES and (path.is_file() or not path.exists())) or (not suffix and not path.exists()):
            sounds.append(path)
        elif not suffix or suffix in OTHER_SUFFIXES or suffix in SUFFIXES:
            on_passed_over(path)
    return sounds


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """All files in a folder at any depth, and folders that cannot be read; links to a folder in `above` are not followed."""
    own = _identity(folder)
    if own in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError:
        yield folder
        return
    for entry in entries:
        path = folder / entry.name
        if _is_folder(entry):
            yield from _walk(path, (*above, own))
        else:
            yield path


def _expand(folder: Path, parts: Sequence[str], above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """The paths in a folder that match the `parts` of a pattern; `**` matches any number of folders.

    Below `**`, links to a folder in `above` are not followed.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        own = _identity(folder)
        if own in above:
            return
        if rest:
            yield from _expand(folder, rest, ())
        for entry in _entries(folder):
            if _is_folder(entry):
                yield from _expand(folder / entry.name, parts, (*above, own))
            elif not rest:
                yield folder / entry.name
    elif not any(mark in part for mark in "*?["):
        if os.path.lexists(folder / part):
            yield from _expand(folder / part, rest, ()) if rest else [folder / part]
    else:
        for entry in _entries(folder):
            if fnmatchcase(entry.name, part):
                yield from _expand(folder / entry.name, rest, ()) if rest else [folder / entry.name]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:  # a file, where the pattern needs a folder
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino
