"""What all pictures share: colours, figures without pyplot's global state, files by their suffix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insignia_model.errors import InvalidArgument
from insignia_model.optional import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOX = "#c9d7e8"
INK = "#27496d"
REFERENCE = "#b5482f"
GREY = "#666666"
OTHER = "#d9d9d9"
#: Told apart by people of any colour vision: Okabe and Ito 2008, without black, and two shades between.
CATEGORIES = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6bb1", "#b8a200",
)  # fmt: skip
LONGEST_NAME = 60


def axes(ax: Axes | None, width: float, height: float) -> tuple[Figure, Axes]:
    """The given axes and their figure, or new ones of this size in inches."""
    if ax is not None:
        return ax.get_figure(root=True), ax  # type: ignore[return-value]
    with extra("plot", "a plot"):
        figure = new_figure(width, height)
    return figure, figure.add_subplot()


def new_figure(width: float, height: float) -> Figure:
    """Empty figure of this size in inches, which a notebook shows."""
    from insignia_model.plot.figure import NotebookFigure

    return NotebookFigure(figsize=(width, height), layout="constrained")


def finished(figure: Figure, path: str | Path | None) -> Figure:
    """The figure, written to ``path`` (.png, .svg, .pdf) if there is one."""
    if path is not None:
        check_path(path)
        figure.savefig(path, dpi=160, bbox_inches="tight")
    return figure


def check_path(path: str | Path, name: str = "path") -> None:
    """Raise `InvalidArgument` about the argument ``name`` unless a figure can be written in such a file."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix[1:].lower() not in known:
        raise InvalidArgument(name, f"{path} must end in one of .{', .'.join(sorted(known))}")
    if not Path(path).absolute().parent.is_dir():
        raise InvalidArgument(name, f"{path} cannot be written: there is no such folder")


def group_name(values: Sequence[Any]) -> str:
    """A group's values as one label."""
    return short(" · ".join("missing" if lacks_value(v) else str(v) for v in values) or "all cells")


def lacks_value(value: object) -> bool:
    """None, a NaN, or pandas's NA, of which even the comparison is missing."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def short(text: str, longest: int = LONGEST_NAME) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def counted(n: int, what: str) -> str:
    """``3 groups``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def titled(ax: Axes, text: str, pad: float = 18) -> None:
    """Title to the left; a $ in a name is no formula."""
    ax.set_title(short(text, 80), loc="left", fontweight="bold", fontsize=11, pad=pad, parse_math=False)


def lighten(ax: Axes) -> None:
    """Horizontal bars or rows: a grid along x, no frame."""
    ax.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
