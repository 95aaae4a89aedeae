"""What became of the gene names of a question."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from insignia_model.table import Column, Table

#: How a name leads to the symbol that is used for it: what that is called.
WAYS = {
    "exact": "exact symbol",
    "case": "in another case",
    "previous": "previous symbol",
    "alias": "alias",
    "ensembl": "Ensembl id",
}


class Themselves(Mapping[str, str]):
    """``n`` symbols that were asked for by themselves, by themselves; looked up when they are first needed.

    Those of a whole profile are some thousand, which lie all over the memory and which few look at.
    """

    def __init__(self, n: int, look_up: Callable[[], Iterable[str]]) -> None:
        self._n, self._look_up = n, look_up
        self._found: dict[str, str] | None = None

    def _names(self) -> dict[str, str]:
        if self._found is None:
            self._found = {name: name for name in self._look_up()}
        return self._found

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __getitem__(self, name: str) -> str:
        return self._names()[name]

    def __repr__(self) -> str:
        return repr(self._names())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self._names(),)  # what looks them up cannot be pickled


@dataclass(frozen=True, slots=True)
class GeneReport:
    """What became of gene names: each is in one of ``resolved``, ``ambiguous`` and ``missing``.

    ``resolved``: asked name → symbol used (a name of the atlas vocabulary, be it a symbol or an Ensembl id).
    ``inexact``: how (a key of `WAYS`), of the resolved names that are not in the vocabulary themselves.
    ``ambiguous``: name → the symbols that it may mean, none of which was used. One symbol alone: the name is
    also that of a gene that the vocabulary lacks. ``missing``: names of which the vocabulary has no gene;
    ``suggestions``: symbols that are spelled like a missing name that no gene is known to have.
    ``duplicates``: symbol → the names asked, two or more, that all mean it; it counts once.
    ``weight_coverage``: share (0-1) of the sum of absolute weights, asked for plainly 1 a name, that was
    resolved. ``n_genes_measured``: study → how many of the genes that count it measured.
    """

    resolved: Mapping[str, str]
    missing: tuple[str, ...] = ()
    inexact: dict[str, str] = field(default_factory=dict)
    ambiguous: dict[str, tuple[str, ...]] = field(default_factory=dict)
    suggestions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    duplicates: dict[str, tuple[str, ...]] = field(default_factory=dict)
    weight_coverage: float = 1.0
    n_genes_measured: dict[str, int] = field(default_factory=dict)

    @property
    def n_genes(self) -> int:
        """Distinct genes that the resolved names mean."""
        return len(self.resolved) - sum(len(names) - 1 for names in self.duplicates.values())

    def how(self, name: str) -> str:
        """Key of `WAYS` for a resolved name, else "ambiguous" or "missing"."""
        if name in self.resolved:
            return self.inexact.get(name, "exact")
        return "ambiguous" if name in self.ambiguous else "missing"

    def problems(self) -> dict[str, str]:
        """Name → why it is no exact symbol, in words; empty if all are."""
        return (
            {name: f"used as {self.resolved[name]} ({WAYS[how]})" for name, how in self.inexact.items()}
            | {name: f"may mean {_either(found)}" for name, found in self.ambiguous.items()}
            | {name: self._why_missing(name) for name in self.missing}
        )

    def _why_missing(self, name: str) -> str:
        alike = self.suggestions.get(name)
        return f"not in the atlas; did you mean {_either(alike)}?" if alike else "not in the atlas"

    def table(self) -> Table:
        """One row a name: name, symbol, how, candidates (of an ambiguous name) or suggestions, by comma."""
        names = [*self.resolved, *self.ambiguous, *self.missing]
        others = self.ambiguous | self.suggestions
        return Table(
            {
                "name": Column.text(names),
                "symbol": Column.text([self.resolved.get(name) for name in names]),
                "how": Column.text([self.how(name) for name in names]),
                "candidates": Column.text([", ".join(others.get(name, ())) or None for name in names]),
            }
        )

    def to_dict(self) -> dict[str, object]:
        """As the JSON of an answer has it; ``resolved`` are the symbols that are used."""
        used = list(dict.fromkeys(self.resolved.values()))
        return {"resolved": used, "missing": list(self.missing)} | self.account()

    def account(self) -> dict[str, object]:
        """All but ``resolved`` and ``missing`` as JSON has it."""
        return {
            "inexact": {n: {"symbol": self.resolved[n], "how": how} for n, how in self.inexact.items()},
            "ambiguous": {name: list(found) for name, found in self.ambiguous.items()},
            "suggestions": {name: list(found) for name, found in self.suggestions.items()},
            "duplicates": {symbol: list(names) for symbol, names in self.duplicates.items()},
            "weight_coverage": self.weight_coverage,
            "n_genes_measured": dict(self.n_genes_measured),
        }


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
