"""From a request to gene ids, weights and the cells that pass."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from insignia_index.genes.report import check_exact, report_of
from insignia_index.search.grouping import Grouping, filtered, group_cells
from insignia_index.snapshot import Snapshot
from insignia_model.condition import Condition
from insignia_model.errors import InvalidArgument, InvalidSignature, NoGeneResolved
from insignia_model.genes import GeneReport
from insignia_model.signature import Signature

#: Of a sum, whose scores are float32.
_LARGEST_WEIGHT = 1e30


@dataclass(frozen=True, slots=True)
class Query:
    """A signature in the terms of a snapshot: gene ids int64 (n,) ascending, weights float64 (n,).

    ``divisor`` turns the weighted sum into the aggregate; ``measured`` int64 (n_studies,): how many of the
    genes each study measured. The signature's own weights are ``weights`` times 2**``exponent``.
    """

    gene_ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    divisor: float
    measured: npt.NDArray[np.int64]
    report: GeneReport
    exponent: int = 0


def resolve(
    snapshot: Snapshot, names: Collection[str], weights: Sequence[float] | None = None, strict: bool = False
) -> tuple[GeneReport, list[int]]:
    """What became of distinct ``names``, and the id of every name, -1 for none.

    ``weights`` go with the names, for the report. ``strict``: raises `InexactGenes` unless all are exact.
    The report does not say yet how many genes each study measured.
    """
    gene_id = snapshot.gene_ids.get
    found = list(map(gene_id, names))
    if None not in found:
        return GeneReport(dict(zip(names, names, strict=True))), found  # type: ignore[return-value]
    report = report_of(names, weights, snapshot.resolver)
    if strict:
        check_exact(report)
    resolved = report.resolved.get
    return report, [
        gene_id(resolved(name, ""), -1) if i is None else i for name, i in zip(names, found, strict=True)
    ]


def resolve_names(snapshot: Snapshot, names: Iterable[str], strict: bool = False) -> GeneReport:
    """The whole report of names without weights."""
    report, ids = resolve(snapshot, dict.fromkeys(names), strict=strict)
    gene_ids = np.unique(np.array(ids, np.int64))
    return _with_measured(report, snapshot, snapshot.n_genes_measured(gene_ids[gene_ids >= 0]))


def _with_measured(report: GeneReport, snapshot: Snapshot, measured: npt.NDArray[np.int64]) -> GeneReport:
    # filled in, because a new report would cost a tenth of what a search costs before it scores
    report.n_genes_measured.update(zip(snapshot.study_ids, measured.tolist(), strict=True))
    return report


def plan_query(snapshot: Snapshot, signature: Signature, aggregate: str, strict: bool = False) -> Query:
    """Resolve a signature; raises `NoGeneResolved` if nothing of it, or nothing but zero weights, is left.

    Names that mean one gene count once; `InvalidSignature` if their weights differ.
    """
    asked = signature.weights
    report, ids = resolve(snapshot, asked.keys(), list(asked.values()), strict)
    gene_ids = np.array(ids, np.int64)
    weights = np.fromiter(asked.values(), np.float64, len(ids))
    if report.duplicates:
        repeats = _repeats(signature, report)
        gene_ids[[name in repeats for name in asked]] = -1
    order = gene_ids.argsort()
    if gene_ids[order[0]] < 0 or not weights.all():
        order = order[(gene_ids[order] >= 0) & (weights[order] != 0)]
    if not len(order):
        problems = report.problems()
        raise NoGeneResolved({n: "has weight 0" if n in report.resolved else problems[n] for n in asked})
    return query_of(snapshot, gene_ids[order], weights[order], aggregate, report)


def query_of(
    snapshot: Snapshot,
    gene_ids: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    aggregate: str,
    report: GeneReport,
) -> Query:
    """Query of gene ids int64 (n,) ascending and their weights float64 (n,), none of which is 0.

    ``report`` is filled with how many genes each study measured.
    """
    sizes = np.abs(weights)
    largest, exponent, divisor = float(sizes.max()), 0, 1.0
    if aggregate == "mean":
        # the largest to between 1/2 and 1: the same mean, and none that float32 cannot hold
        exponent = math.frexp(largest)[1]
        weights, divisor = np.ldexp(weights, -exponent), float(np.ldexp(sizes, -exponent).sum())
    elif largest > _LARGEST_WEIGHT:
        raise InvalidArgument("aggregate", f"a sum has no weights above {_LARGEST_WEIGHT:g}; use mean")
    measured = snapshot.n_genes_measured(gene_ids)
    return Query(
        gene_ids=gene_ids,
        weights=weights,
        divisor=divisor,
        measured=measured,
        report=_with_measured(report, snapshot, measured),
        exponent=exponent,
    )


def _repeats(signature: Signature, report: GeneReport) -> set[str]:
    """Names of a signature that mean the gene of an earlier one."""
    for symbol, (first, *others) in report.duplicates.items():
        for other in others:
            if signature.weights[other] != signature.weights[first]:
                raise InvalidSignature(
                    signature.name,
                    f"{first!r} and {other!r} both mean {symbol}, but have the weights "
                    f"{signature.weights[first]:g} and {signature.weights[other]:g}; keep one of them",
                )
    return {name for names in report.duplicates.values() for name in names[1:]}


class Groupings:
    """Recent groupings of one snapshot, by fields and filter, within a budget of memory."""

    _KEPT_BYTES = 1 << 30

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, Grouping] = OrderedDict()

    def get(
        self, group_by: tuple[str, ...], where: tuple[Condition, ...], measured: npt.NDArray[np.bool_] | None
    ) -> Grouping:
        """Grouping of the cells that pass ``where``, of ``measured`` studies (bool, n_studies; None: all)."""
        if measured is not None and measured.all():
            measured = None
        if not where and measured is None:
            return self._lookup(group_by, lambda: group_cells(self._snapshot, group_by))
        everything = self.get(group_by, (), None)
        # as text, because 1, 1.0 and True are equal, and yet not the same text
        key = (group_by, repr(where), None if measured is None else measured.tobytes())
        return self._lookup(key, lambda: filtered(self._snapshot, everything, where, measured))

    def _lookup(self, key: object, make: Callable[[], Grouping]) -> Grouping:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        grouping = make()  # outside of the lock: two may make it at once, which is rare and harmless
        with self._lock:
            self._kept[key] = grouping
            while len(self._kept) > 1 and sum(g.size_bytes for g in self._kept.values()) > self._KEPT_BYTES:
                self._kept.popitem(last=False)
        return grouping
