"""Contrasts: two values of a metadata field whose samples are compared."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from insignia_model.errors import InvalidArgument

_COLON = re.compile(r"""("(?:[^"]|"")*")|\s*:\s*""")


@dataclass(frozen=True, slots=True)
class Contrast:
    """Samples with ``field`` = ``value`` against those with ``field`` = ``reference``.

    Values are texts; those of numbers and truth values, which may be given as such, are understood as in a
    condition.
    """

    field: str
    value: str
    reference: str

    def __post_init__(self) -> None:
        for name in ("value", "reference"):
            value = getattr(self, name)
            if isinstance(value, bool | int | float | np.generic) and value == value:
                object.__setattr__(self, name, str(value))
        for name, text in (("field", self.field), ("value", self.value), ("reference", self.reference)):
            if not isinstance(text, str):
                raise InvalidArgument("contrast", f"the {name} is {text!r}, which is no text and no number")
            if not text:
                raise InvalidArgument("contrast", f"the {name} of {str(self)!r} is empty")
        if self.value == self.reference:
            raise InvalidArgument("contrast", f"{str(self)!r} has the same value on both sides")

    @classmethod
    def parse(cls, text: str) -> Contrast:
        """Contrast from ``disease=lupus:normal``; a value that holds a colon is put in double quotes."""
        field, equals, rest = text.partition("=")
        # no blanks around a colon that is not in quotes; what is in quotes stays as it is
        rest = _COLON.sub(lambda found: found[1] or ":", rest.strip())
        try:
            sides = next(csv.reader([rest], delimiter=":", strict=True), [])
        except csv.Error as error:
            raise InvalidArgument("contrast", f"{text!r} cannot be read: {error}") from error
        if not equals or len(sides) != 2:
            raise InvalidArgument(
                "contrast",
                f"{text!r} is not FIELD=VALUE:REFERENCE, such as disease=lupus:normal; "
                'a value with a colon is put in double quotes: id="CL:0000236":"CL:0000084"',
            )
        return cls(field.strip(), *sides)

    def __str__(self) -> str:
        return f"{self.field}={_written(self.value)}:{_written(self.reference)}"


ContrastsLike: TypeAlias = Contrast | str | Iterable[Contrast | str]


def contrasts(value: ContrastsLike) -> tuple[Contrast, ...]:
    """Contrasts from one or several, or from their texts."""
    several = (value,) if isinstance(value, Contrast | str) else tuple(value)
    return tuple(map(_contrast, several))


def _contrast(value: object) -> Contrast:
    if isinstance(value, Contrast):
        return value
    if isinstance(value, str):
        return Contrast.parse(value)
    raise InvalidArgument("contrasts", f"{value!r} is neither a Contrast nor FIELD=VALUE:REFERENCE")


def _written(value: str) -> str:
    quoted = value.replace('"', '""')
    return f'"{quoted}"' if set(value) & set(':"\n\r') or value != value.strip() else value
