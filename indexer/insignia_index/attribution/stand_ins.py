"""Checkpoints that mention classes of other packages, read with inert stand-ins in their place.

scvi-tools saves its training history, pandas frames, beside the weights; Lightning may save paths and
numbers of numpy. Nothing of these packages is imported or run: each class and function that the file names
becomes a class of ours that keeps what it is given and does nothing with it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.serialization import get_unsafe_globals_in_checkpoint

from insignia_index.attribution.weights import DAMAGE, read_checkpoint

# What published checkpoints name. Anything else, such as os.system, is refused: a file with it means harm.
PACKAGES = ("numpy.", "pandas.", "pyarrow.", "pathlib.", "builtins.slice", "builtins.bytes")
MAPPINGS = ("builtins.dict", "collections.defaultdict")  # read as plain dictionaries


class StandIn:
    """Instead of an object of another package; keeps what it was to be made of."""

    state: Any = None

    def __new__(cls, *_: Any) -> StandIn:  # noqa: D102
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _EmptyDictionary:
    """Makes a dictionary, whatever it is called with: torch fills no subclass of it."""

    def __new__(cls, *_: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


def read_with_stand_ins(path: Path) -> dict[str, Any]:
    """What ``torch.save`` wrote: tensors, plain containers, and a `StandIn` for each object of `PACKAGES`."""
    names = _foreign_names(path)
    mappings = [_stand_in(name, _EmptyDictionary) for name in names if name in MAPPINGS]
    others = [_stand_in(name, StandIn) for name in names if name.startswith(PACKAGES)]
    return read_checkpoint(path, mappings + others)


def _stand_in(name: str, base: type) -> type:
    """A class by the full name of another, which is how torch finds it."""
    module, _, attribute = name.rpartition(".")
    return type(attribute, (base,), {"__module__": module})


def _foreign_names(path: Path) -> Sequence[str]:
    """Classes and functions that the file names and torch does not know; none of a file that is damaged."""
    try:
        return sorted(get_unsafe_globals_in_checkpoint(path))
    except (*DAMAGE, pickle.UnpicklingError):
        return []  # `read_checkpoint` says what is wrong with it


def strings_of(found: object) -> list[str] | None:
    """Strings of a list, or of the stand-in of a numpy array of Python strings; None of anything else."""
    if isinstance(found, StandIn):
        state = found.state  # version, shape, dtype, is in Fortran order, values: `numpy.ndarray.__reduce__`
        if not isinstance(state, tuple) or len(state) != 5:
            return None
        found = state[4]
    if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
        return None
    return found
