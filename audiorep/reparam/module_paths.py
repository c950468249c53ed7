"""Chooses the paths of the modules of a merged network, close to the original's."""

from __future__ import annotations

from typing import Any


class ModulePaths:
    """Chooses paths so that no two modules share one and no module lies inside another."""

    def __init__(self, claims: dict[Any, list[str]]) -> None:
        self._claims = claims
        self._taken: set[str] = set()

    def choose(self, target: Any, wish: str | None = None) -> str:
        """A free path for `target`, as close as possible to where its parts were in the original."""
        candidates = [wish] if wish else []
        members = getattr(target, "members", ())
        kernels = [
            path for label, path in members if label.startswith(("conv", "transposed", "linear", *("LSTM", "GRU"))) and path
        ]
        paths = [path for _, path in members if path]
        if len(kernels) == 1:
            candidates.append(kernels[0])
        elif paths:
            candidates.append(_common(kernels or paths))
        candidates += [*kernels, *paths]
        others = [path for other, listed in self._claims.items() if other is not target for path in listed]
        for path in candidates:
            if path and self._free(path, others):
                return self._take(path)
        stem = next((path for path in candidates if path), "merged")
        return self._take(next(f"{stem}_{i}" for i in range(1, 10**6) if self._free(f"{stem}_{i}", others)))

    def _take(self, path: str) -> str:
        self._taken.add(path)
        return path

    def _free(self, path: str, others: list[str]) -> bool:
        inside = any(other.startswith(path + ".") for other in (*others, *self._taken))
        return path not in self._taken and not inside and not any(path.startswith(other + ".") for other in self._taken)


def _common(paths: list[str]) -> str:
    split = [path.split(".") for path in paths]
    shared = []
    for parts in zip(*split, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)
