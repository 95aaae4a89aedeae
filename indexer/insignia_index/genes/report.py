"""The account of a question's gene names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from insignia_index.genes.resolver import Found, Resolver
from insignia_index.genes.suggest import MOST_NAMES
from insignia_model.errors import InexactGenes
from insignia_model.genes import GeneReport


def report_of(names: Collection[str], weights: Sequence[float] | None, resolver: Resolver) -> GeneReport:
    """Report of distinct ``names``; ``weights`` go with them (None: all the same)."""
    found = {name: resolver.find(name) for name in names}
    resolved = {name: f.used for name, f in found.items() if f.used is not None}
    missing = tuple(name for name, f in found.items() if f.used is None and not f.candidates)
    return GeneReport(
        resolved=resolved,
        missing=missing,
        inexact={name: f.how for name, f in found.items() if f.used is not None and f.how != "exact"},
        ambiguous={name: f.candidates for name, f in found.items() if f.candidates},
        suggestions=_suggestions([name for name in missing if not found[name].is_known], resolver),
        duplicates=_duplicates(resolved),
        weight_coverage=_coverage(found, weights),
    )


def check_exact(report: GeneReport) -> None:
    """Raise `InexactGenes` unless every name is an exact symbol."""
    if problems := report.problems():
        raise InexactGenes(problems)


def _suggestions(names: list[str], resolver: Resolver) -> dict[str, tuple[str, ...]]:
    # a number of names, not a time: the same question has the same answer on a busy machine
    return {name: alike for name in names[:MOST_NAMES] if (alike := resolver.suggest(name))}


def _duplicates(resolved: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    by_symbol: dict[str, tuple[str, ...]] = {}
    for name, symbol in resolved.items():
        by_symbol[symbol] = (*by_symbol.get(symbol, ()), name)
    return {symbol: names for symbol, names in by_symbol.items() if len(names) > 1}


def _coverage(found: Mapping[str, Found], weights: Sequence[float] | None) -> float:
    sizes = np.ones(len(found)) if weights is None else np.abs(np.array(weights, np.float64))
    if not len(sizes) or not sizes.max():
        return 1.0
    sizes /= sizes.max()  # else the sum of weights that are allowed may be infinite
    used = np.array([f.used is not None for f in found.values()])
    return float(sizes[used].sum() / sizes.sum())
