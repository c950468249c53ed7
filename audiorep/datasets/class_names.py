"""Normalizes class names, and finds names that look alike."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

_SURROGATE = re.compile("[\ud800-\udfff]")
_BETWEEN = re.compile(r"(?<=\w)[\s_\-\u2010-\u2015\u2212]+(?=\w)")
_LOOK_ALIKES = str.maketrans(
    "‘’‚‛ʼ`´′“”„‟″‐‑‒–—―−⁄∕⋅∙•·аеорсухіјѕԁԛԝһАВЕКМНОРСТХІЈЅԚԜΑΒΕΖΗΙΚΜΝΟΡΤΥΧογνι",
    "''''''''\"\"\"\"\"-------//····aeopcyxijsdqwhABEKMHOPCTXIJSQWABEZHIKMNOPTYXoyvi",
)
"""Quotation marks, dashes and dots, and the Cyrillic and Greek letters that look like Latin ones."""


def normalized(label: str) -> str:
    r"""A class name in Unicode's composed form (NFC) without surrounding blanks.

    Bytes that are not text, which the name of a folder may hold, are written as escapes like `\xff`.
    """
    if label.isascii():
        return label.strip()
    return unicodedata.normalize("NFC", _SURROGATE.sub(_escaped, label)).strip()


def normalized_all(labels: Iterable[str]) -> tuple[str, ...]:
    """The normalized names without duplicates."""
    return tuple(dict.fromkeys(map(normalized, labels)))


def is_text(label: str) -> bool:
    """Whether a name is text; the name of a file may hold other bytes."""
    return _SURROGATE.search(label) is None


def look_alikes(labels: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name, the most frequent name that looks like it, how they differ) for class names that look like another one."""
    counts = Counter(labels)
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts, key=lambda label: (-counts[label], label)):
        alike[_folded(label, _FOLDS.values())].append(label)
    for usual, *others in alike.values():
        for other in others:
            yield other, usual, difference(usual, other)


def difference(one: str, other: str) -> str:
    """How two names that look alike differ, in words, with the code points of special characters."""
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return "Unicode form"
    needed = [
        words
        for words in _FOLDS
        if len({_folded(text, [fold for name, fold in _FOLDS.items() if name != words]) for text in (one, other)}) == 2
    ]
    apart = sorted(set(one) ^ set(other), key=lambda c: (ord(c), c))
    odd = [f"U+{ord(c):04X} {unicodedata.name(c, 'a control character')}" for c in apart if not c.isascii() or c < " "]
    return " and ".join(needed or ["characters that look alike"]) + (f" ({', '.join(odd)})" if odd else "")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _folded(text: str, folds: Iterable[Callable[[str], str]]) -> str:
    for fold in folds:
        text = fold(text)
    return text


def _visible(text: str) -> str:
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c in "\t\n\r")


_FOLDS: dict[str, Callable[[str], str]] = {
    "characters that are not seen": _visible,
    "characters that look alike": lambda text: unicodedata.normalize("NFKC", text.translate(_LOOK_ALIKES)),
    "blanks, dashes or underscores": lambda text: _BETWEEN.sub(" ", text).strip(),
    "letter case": str.casefold,
}
"""Differences that are easily overlooked, and functions that remove them, in the order of their use."""
