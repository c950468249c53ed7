"""The look that all pictures share: a card, its axes, their ticks, and names that stay apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import ceil, floor, log10
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from audiorep.escape import visible
from audiorep.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

CARD, BORDER, GRID = "#ffffff", "#d0d7de", "#e7ebef"
INK, MUTED, PALE = "#1f2328", "#57606a", "#c4cbd3"
BLUE, ORANGE, GREEN, PURPLE, GOLD, GRAY = "#1f6fb4", "#d9730d", "#1a8a5a", "#8250b4", "#b08800", "#6e7781"
MARKS = "osD^vP*Xhd<>p8"
TITLE_SIZE, TEXT_SIZE = 11, 9
LONGEST = 28  # characters of a name; a longer one loses its middle
FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Micro Hei", "Microsoft YaHei", "Yu Gothic",
    "Malgun Gothic", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans", "Noto Sans Arabic",
    "Noto Sans Devanagari", "Noto Sans Thai", "Segoe UI Symbol", "Noto Emoji", "Symbola",
)  # fmt: skip
"""Fonts for the characters that DejaVu Sans lacks, where they are installed."""
STEPS: tuple[tuple[float, ...], ...] = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8))
"""Ticks in each decade of a logarithmic axis, from few to many."""


@contextmanager
def look() -> Iterator[None]:
    """Draws text as it is (no formulas between dollar signs, no LaTeX, other alphabets by other fonts) in the shared colors."""
    from matplotlib import rc_context

    settings: dict[Any, Any] = {
        "text.parse_math": False,
        "text.usetex": False,
        "font.family": _families(),
        "font.size": TEXT_SIZE,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.facecolor": CARD,
        "lines.linewidth": 1.8,
    }
    with rc_context(settings):
        yield


def card(width: float, height: float) -> Figure:
    """An empty figure of so many inches: a white card with a thin border, which reads on light and on dark pages."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import FancyBboxPatch

    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.09, wspace=0.02, compress=True)
    figure = Figure((width, height), dpi=130, layout=layout, facecolor="none")
    shape = FancyBboxPatch(
        (0.01, 0.01), width - 0.02, height - 0.02, "round,pad=0,rounding_size=0.08",
        transform=figure.dpi_scale_trans, facecolor=CARD, edgecolor=BORDER, linewidth=0.8, zorder=-1,
    )  # fmt: skip
    shape.set_in_layout(False)
    figure.add_artist(shape)
    return figure


def title(figure: Figure, text: str) -> None:
    """Writes a title over the whole picture; its lines are wrapped where the card ends."""
    letters = int(figure.get_figwidth() * 72 / (0.6 * TITLE_SIZE)) - 4
    lines = [part for line in text.split("\n") for part in wrap(drawable(line, 4 * LONGEST), letters) or [""]]
    left = 0.16 / figure.get_figwidth()
    figure.suptitle("\n".join(lines), x=left, ha="left", fontsize=TITLE_SIZE, color=INK)


def dress(axes: Axes, across: str, up: str) -> None:
    """Names the axes, with a pale grid behind the data."""
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=MUTED, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(BORDER)


def legend(figure: Figure, handles: Sequence[Any], columns: int = 6) -> None:
    """A legend below the axes, with each mark once."""
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            handletextpad=0.5,
            borderpad=0.1,
            borderaxespad=0.9,
        )


def log_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """Ticks in plain numbers at a logarithmic axis: at least three where they fit."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    every = ([step * 10.0**decade for decade in decades for step in steps] for steps in STEPS)
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in every]
    even = [tick for tick in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
    chosen = next((ticks for ticks in inside if len(ticks) >= 3), even)
    axis.set_major_locator(FixedLocator(chosen))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: text(value))


def number(value: float) -> str:
    """A number for people: 0.5, 20, 8,000, 795 k, 12 M, 1.2 G."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= 0.9999 * size:
            return f"{value / min(size, 1e3 if size == 1e4 else size):.3g}{unit}"
    return f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


def kilobytes(value: float) -> str:
    """A size that is given in kB: 456 kB, 3.44 MB."""
    return f"{value / 1e3:.3g} MB" if value >= 999.5 else f"{value:.3g} kB"


def percent(value: float) -> str:
    """A share with as many digits as it has: 50%, 97.5%."""
    return f"{100 * value:.4g}%"


def place_names(points: Sequence[tuple[str, float, float]], axes: Axes, taken: Sequence[Bbox] = ()) -> None:
    """Writes the name of each (name, x, y) beside it, where it hides least of points, other names and boxes `taken`."""
    from matplotlib.transforms import Bbox

    figure: Any = axes.figure
    figure.draw_without_rendering()  # settles where the points are
    around = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in axes.transData.transform([point[1:] for point in points])]
    used = [*taken, *around]
    for name, x, y in points:
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=8, color=INK, ha="center", va="center")
        text.set_in_layout(False)
        box = text.get_window_extent()
        away = box.width / 2 + 9
        spots = [box.translated(away * side, 11 * height) for height in (1, -1, 0, 2, -2, 3, -3) for side in (1, -1, 0)]
        inside = [spot for spot in spots if shared_area(spot, axes.bbox) > 0.99 * shared_area(spot, spot)] or spots
        best = min(inside, key=lambda spot: sum(shared_area(spot, other) for other in used))  # the first of equals
        text.set_position(((best.x0 - box.x0) * 72 / figure.dpi, (best.y0 - box.y0) * 72 / figure.dpi))
        used.append(best)


def shared_area(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    both = one.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)


def drawable(text: str, longest: int = LONGEST) -> str:
    """A name that can be drawn: one line, at most `longest` characters, and codes for characters that no font has."""
    glyphs = _glyphs()
    known = "".join(
        c if ord(c) in glyphs or not c.isprintable() else c.encode("ascii", "backslashreplace").decode() for c in text
    )
    shown = visible(known)
    half = longest // 2
    return shown if len(shown) <= longest else f"{shown[:half]}…{shown[-half + 1 :]}"


def save(figure: Figure, path: Path) -> None:
    """Writes the picture whole or not at all, in the format that the name ends in, or else as PNG."""
    named = path.suffix.removeprefix(".").lower()
    with replacing(path) as partial:
        figure.savefig(partial, format=named if named in figure.canvas.get_supported_filetypes() else "png")


@cache
def _families() -> list[str]:
    """DejaVu Sans, and those of `FONTS` that are installed."""
    from matplotlib.font_manager import fontManager

    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FONTS if name in there)]


@cache
def _glyphs() -> frozenset[int]:
    """The characters that can be drawn."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(code for name in _families() for code in get_font(findfont(name)).get_charmap())
