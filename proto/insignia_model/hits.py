"""The hit rule: which cells count as hits of a signature."""

from __future__ import annotations

import math
from dataclasses import dataclass

from insignia_model.errors import InvalidArgument

#: Kind: what its value means. A hit scores strictly above the cut-off, except ``top``.
KINDS = {
    "percentile": "cut-off is this percentile (0-100) of the scores of all cells that pass the filter",
    "quantile": "the same on the scale 0-1",
    "value": "cut-off is this score",
    "zscore": "cut-off is mean + value * standard deviation (of the population) of those scores",
    "top": "the value best cells, ties to the smaller (study, cell row); cut-off is the last one's score",
}


@dataclass(frozen=True, slots=True)
class HitRule:
    """One of ``percentile``, ``quantile``, ``value``, ``zscore``, ``top``, and its value.

    Percentiles interpolate linearly between order statistics, as `numpy.percentile` does.
    """

    kind: str = "percentile"
    value: float = 95.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidArgument("hits", f"{self.kind!r} is not one of {', '.join(KINDS)}")
        upper = {"percentile": 100.0, "quantile": 1.0}.get(self.kind)
        if not math.isfinite(self.value):
            raise InvalidArgument("hits", f"{self.kind} needs a finite number, not {self.value}")
        if upper is not None and not 0 <= self.value <= upper:
            raise InvalidArgument("hits", f"{self.kind} is from 0 to {upper:g}, not {self.value:g}")
        if self.kind == "top" and (self.value < 1 or self.value != int(self.value)):
            raise InvalidArgument("hits", f"top needs a whole number of cells, 1 or more, not {self.value:g}")

    @classmethod
    def of(cls, value: HitRule | str | None) -> HitRule:
        """Rule from its text such as ``"percentile:95"``, the default for None."""
        if value is None:
            return cls()
        if isinstance(value, str):
            return cls.parse(value)
        if not isinstance(value, HitRule):
            raise InvalidArgument("hits", f"{value!r} is no rule; write HitRule.quantile(0.95) or 'top:100'")
        return value

    @classmethod
    def percentile(cls, value: float) -> HitRule:
        """Above this percentile (0-100), atlas-wide over the cells of the filter."""
        return cls("percentile", value)

    @classmethod
    def quantile(cls, value: float) -> HitRule:
        """Above this quantile (0-1), atlas-wide over the cells of the filter."""
        return cls("quantile", value)

    @classmethod
    def above(cls, value: float) -> HitRule:
        """Score strictly above ``value``."""
        return cls("value", value)

    @classmethod
    def zscore(cls, value: float) -> HitRule:
        """More than ``value`` standard deviations above the mean."""
        return cls("zscore", value)

    @classmethod
    def top(cls, n_cells: int) -> HitRule:
        """The ``n_cells`` best cells."""
        return cls("top", n_cells)

    @classmethod
    def parse(cls, text: str) -> HitRule:
        """``KIND:VALUE``, such as ``percentile:95`` or ``top:1000``."""
        kind, _, value = text.partition(":")
        try:
            return cls(kind.strip(), float(value))
        except ValueError as error:
            raise InvalidArgument("hits", f"{text!r} is not KIND:NUMBER, such as percentile:95") from error

    def __str__(self) -> str:
        return f"{self.kind}:{repr(float(self.value)).removesuffix('.0')}"
