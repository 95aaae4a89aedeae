"""Lists of names in a line of text."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], n_shown: int = 10) -> str:
    """The first names, and how many more there are."""
    more = len(names) - n_shown
    return ", ".join(names[:n_shown]) + (f" and {more:,} more" if more > 0 else "")
