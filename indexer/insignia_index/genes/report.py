"""The account of a question's gene names."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from insignia_index.genes.resolver import Resolver
from insignia_index.genes.suggest import MOST_NAMES
from insignia_model.errors import InexactGenes
from insignia_model.genes import GeneReport


def report_of(names: Collection[str], weights: Sequence[float] | None, resolver: Resolver) -> GeneReport:
    """Report of distinct ``names``; ``weights`` go with them (None: all the same)."""
    found = {name: resolver.find(name) for name in resolver.unknown(names)}
    used = {name: f.used for name, f in found.items() if f.used is not None}
    # most names are exact: a screen reports on thousands of signatures of hundreds
    resolved = dict(zip(names, names, strict=True))
    for name in found:
        if name in used:
            resolved[name] = used[name]
        else:
            del resolved[name]
    missing = tuple(name for name, f in found.items() if f.used is None and not f.candidates)
    return GeneReport(
        resolved=resolved,
        missing=missing,
        inexact={name: found[name].how for name in used},
        ambiguous={name: f.candidates for name, f in found.items() if f.candidates},
        suggestions=_suggestions([name for name in missing if not found[name].is_known], resolver),
        duplicates=_duplicates(resolved, used),
        weight_coverage=_coverage(names, weights, resolved),
    )


def check_exact(report: GeneReport) -> None:
    """Raise `InexactGenes` unless every name is an exact symbol."""
    if problems := report.problems():
        raise InexactGenes(problems)


def _suggestions(names: list[str], resolver: Resolver) -> dict[str, tuple[str, ...]]:
    # a number of names, not a time: the same question has the same answer on a busy machine
    return {name: alike for name in names[:MOST_NAMES] if (alike := resolver.suggest(name))}


def _duplicates(resolved: Mapping[str, str], used: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Symbols that several names mean; of names that are all exact no two mean the same."""
    symbols = set(used.values())
    if len(symbols) == len(used) and not any(s in resolved and s not in used for s in symbols):
        return {}
    names_of: dict[str, list[str]] = {symbol: [] for symbol in used.values()}
    for name, symbol in resolved.items():
        if symbol in names_of:
            names_of[symbol].append(name)
    return {symbol: tuple(names) for symbol, names in names_of.items() if len(names) > 1}


def _coverage(names: Collection[str], weights: Sequence[float] | None, resolved: Mapping[str, str]) -> float:
    if weights is None:
        return len(resolved) / len(names) if names else 1.0
    sizes = np.abs(np.array(weights, np.float64))
    largest = sizes.max(initial=0)
    if not largest:
        return 1.0
    sizes /= largest  # else the sum of weights that are allowed may be infinite
    is_resolved = np.fromiter(map(resolved.__contains__, names), np.bool_, len(names))
    return float(sizes[is_resolved].sum() / sizes.sum())
