"""The text of the kernels."""

from __future__ import annotations

from importlib.resources import files

#: In this order they make one translation unit.
PARTS = ("types.cuh", "marks.cu", "score.cu", "select.cu")

_BY_VALUE = ("mark", "score", "statistics", "large", "digits", "narrow", "ties", "finish")
#: Names of the kernels, each ``(uint64 address, int64 number)``; most for values of either kind.
KERNELS = (*(f"{name}_{kind}" for name in _BY_VALUE for kind in ("half", "single")), "scan_ties")

#: Scores must be those of the processor, which does not fuse a product and a sum unless it says so, and does
#: not take small numbers for 0.
OPTIONS = ("--std=c++17", "--fmad=false", "--ftz=false")


def kernel_source() -> str:
    """All kernels as one text of CUDA C++."""
    folder = files(__package__) / "kernels"
    return "\n".join((folder / part).read_text(encoding="utf-8") for part in PARTS)
