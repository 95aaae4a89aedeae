"""Explaining a search: which genes make the best cells and the groups what they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from insignia_index.cancel import CancelToken
from insignia_index.search.cells import cell_table, places
from insignia_index.search.contributions import (
    Floats,
    Ints,
    PresentGroups,
    cell_values,
    factors,
    group_sums,
)
from insignia_index.search.engine import NAME, Session
from insignia_index.search.grouping import Grouping
from insignia_index.search.leave_out import (
    LeftOut,
    by_size,
    effective_number,
    leave_out,
    order_of_means,
    shares,
    strongest,
)
from insignia_index.search.plan import Query, plan_query
from insignia_index.search.scoring import score_all, score_dtype
from insignia_index.search.select import Selection, select
from insignia_index.search.sentences import Told, sentences
from insignia_index.snapshot import Snapshot
from insignia_model.errors import LimitExceeded
from insignia_model.explanation import Explanation
from insignia_model.request import SearchRequest, check_group_by
from insignia_model.result import UNSIGNED_NOTE
from insignia_model.table import Column, Table

#: Columns of groups, and of genes by group, besides those of a search.
EXPLANATION_COLUMNS = (
    "rank", "mean_up", "mean_down", "top_gene", "top_share", "n_effective_genes", "gene", "weight",
    "contribution", "share", "above_rest",
)  # fmt: skip


def explain(
    session: Session,
    request: SearchRequest,
    cancel: CancelToken,
    n_threads: int | None = None,
    max_rows: int | None = None,
) -> Explanation:
    """Contributions of every gene to the best cells and to all groups of a search.

    ``max_rows``: more rows of (cell, gene), or of (group, gene), are refused with `LimitExceeded`.
    """
    started = time.perf_counter()
    check_group_by(request.group_by, EXPLANATION_COLUMNS)
    snapshot, value_bits = session.snapshot, session.value_bits
    query = plan_query(snapshot, request.signature, request.aggregate, request.strict)
    grouping = session.grouping(request, query)
    present = PresentGroups.of(grouping)
    if max_rows is not None:
        _check_rows(request, grouping, present, len(query.gene_ids), max_rows)
    postings = session.genes.get(query.gene_ids)
    work = session.work(grouping, cancel, n_threads)
    scores = session.buffers.take("scores", snapshot.n_cells, score_dtype(value_bits))
    statistics = score_all(work, query, postings, value_bits, scores)
    selection = select(work, scores, statistics, request.hits, request.k)
    session.buffers.give("scores", scores)
    terms = Terms.of(snapshot, query)
    cells = _Cells(snapshot, selection, terms, cell_values(work, postings, value_bits, selection.top_rows))
    sums = group_sums(work, postings, value_bits, present)
    groups = _Groups(grouping, present, terms, sums, request.min_cells)
    return Explanation(
        engine=NAME,
        aggregate=request.aggregate,
        hits=str(request.hits),
        n_cells=grouping.n_cells,
        n_hits=selection.n_hits,
        cutoff=selection.cutoff,
        elapsed_ms=1000 * (time.perf_counter() - started),
        genes=query.report,
        group_by=request.group_by,
        cell_table=cells.table(),
        cell_gene_table=cells.gene_table(),
        group_table=groups.table(selection.slot_hits, query.measured),
        gene_table=groups.gene_table(),
        gene_summary_table=groups.summary_table(),
        sentences=(*groups.sentences(cells.parts), *_on_direction(session, request, grouping)),
        signature=request.signature.name,
        min_cells=request.min_cells,
    )


def _on_direction(session: Session, request: SearchRequest, grouping: Grouping) -> tuple[str, ...]:
    has_none = grouping.n_cells > 0 and session.snapshot.is_unsigned and request.has_negative
    return (f"{UNSIGNED_NOTE[0].upper()}{UNSIGNED_NOTE[1:]}",) if has_none else ()


def _check_rows(
    request: SearchRequest, grouping: Grouping, present: PresentGroups, n_genes: int, limit: int
) -> None:
    n_cells, n_groups = min(request.k, grouping.n_cells), len(present.index)
    if n_cells * n_genes > limit:
        raise LimitExceeded("k times genes", n_cells * n_genes, limit, "ask for fewer cells")
    if n_groups * n_genes > limit:
        advice = "group by fields with fewer values"
        raise LimitExceeded("groups times genes", n_groups * n_genes, limit, advice)


@dataclass(frozen=True, slots=True)
class Terms:
    """The genes of a query: symbols, the signature's weights, and what makes contributions of values."""

    symbols: tuple[str, ...]
    weights: Floats
    factors: Floats

    @classmethod
    def of(cls, snapshot: Snapshot, query: Query) -> Terms:
        """Those of a query."""
        symbols = tuple(snapshot.genes[gene] for gene in query.gene_ids.tolist())
        return cls(symbols, np.ldexp(query.weights, query.exponent), factors(query))

    @property
    def is_signed(self) -> bool:
        """Some weight is negative, so that scores have an up part and a down part."""
        return bool((self.weights < 0).any())

    def halves(self, contributions: Floats, name: str) -> dict[str, Column]:
        """Columns ``name``_up and ``name``_down of contributions (n, n_genes), if some weight is negative."""
        if not self.is_signed:
            return {}
        up = self.weights > 0
        return {
            f"{name}_up": Column.numbers(contributions[:, up].sum(axis=1)),
            f"{name}_down": Column.numbers(contributions[:, ~up].sum(axis=1)),
        }

    def strongest(self, contributions: Floats) -> dict[str, Column]:
        """Columns top_gene, top_share, n_effective_genes of contributions (n, n_genes)."""
        which, share = strongest(contributions), shares(contributions)
        return {
            "top_gene": Column("category", which.astype(np.int32), self.symbols).compact(),
            "top_share": Column.numbers(share[np.arange(len(which)), which]),
            "n_effective_genes": Column.numbers(effective_number(share)),
        }

    def rows(self, order: Ints, contributions: Floats, values: Floats | None = None) -> dict[str, Column]:
        """Columns of a row per gene of each of (n, n_genes) contributions, in ``order`` (n, n_genes)."""
        columns = {
            "gene": Column("category", order.ravel().astype(np.int32), self.symbols).compact(),
            "weight": Column.numbers(self.weights[order.ravel()]),
        }
        if values is not None:
            columns["value"] = Column.numbers(np.take_along_axis(values, order, axis=1).ravel())
        for name, numbers in (("contribution", contributions), ("share", shares(contributions))):
            columns[name] = Column.numbers(np.take_along_axis(numbers, order, axis=1).ravel())
        return columns


class _Cells:
    """The best cells; ``values`` float64 (n_cells, n_genes)."""

    def __init__(self, snapshot: Snapshot, selection: Selection, terms: Terms, values: Floats) -> None:
        self._terms, self._values = terms, values
        #: contributions float64 (n_cells, n_genes)
        self.parts = values * terms.factors
        self._table = cell_table(snapshot, *places(snapshot, selection.top_rows), selection.top_scores)

    def table(self) -> Table:
        known = {name: self._table[name] for name in ("study", "cell_id", "score")}
        known |= self._terms.halves(self.parts, "score") | self._terms.strongest(self.parts)
        return Table(known | {n: c for n, c in self._table.columns.items() if n not in known})

    def gene_table(self) -> Table:
        rows = np.repeat(np.arange(len(self.parts)), self.parts.shape[1])
        columns = {name: self._table[name].take(rows) for name in ("study", "cell_id")}
        return Table(columns | self._terms.rows(by_size(self.parts), self.parts, self._values))


class _Groups:
    """The groups that have cells, highest mean first.

    ``sums`` float64 (n_groups, n_genes) of the attributions. Groups of fewer than ``min_cells`` cells are
    not ranked.
    """

    def __init__(
        self, grouping: Grouping, present: PresentGroups, terms: Terms, sums: Floats, min_cells: int
    ) -> None:
        self._grouping, self._present, self._terms = grouping, present, terms
        self._total = sums.sum(axis=0) * terms.factors / max(1, grouping.n_cells)
        parts = sums * terms.factors / present.n_cells[:, None]
        # what the cells of all other groups have on average; NaN if there are none
        n_others = (grouping.n_cells - present.n_cells)[:, None]
        others = (sums.sum(axis=0) - sums) * terms.factors
        rest = np.divide(others, n_others, out=np.full_like(others, np.nan), where=n_others > 0)
        #: places of the groups in `present`, in the order of the tables
        self._order = order_of_means(parts)
        self._parts, self._rest = parts[self._order], rest[self._order]
        self._n_cells = present.n_cells[self._order]
        self._is_ranked = self._n_cells >= min_cells
        ranked = self._parts[self._is_ranked]
        self._left_out = leave_out(ranked) if len(ranked) else None

    def table(self, slot_hits: Ints, measured: Ints) -> Table:
        n_hits = self._present.count(slot_hits)[self._order]
        columns = self._keys(self._order)
        columns["rank"] = Column("integer", np.cumsum(self._is_ranked), missing=~self._is_ranked)
        columns["n_cells"] = Column("integer", self._n_cells)
        columns["n_hits"] = Column("integer", n_hits)
        columns["hit_fraction"] = Column.numbers(n_hits / self._n_cells)
        columns["mean"] = Column.numbers(self._parts.sum(axis=1))
        columns |= self._terms.halves(self._parts, "mean") | self._terms.strongest(self._parts)
        least = self._present.least(self._grouping, measured)[self._order]
        columns["n_genes_measured"] = Column("integer", least)
        return Table(columns)

    def gene_table(self) -> Table:
        keys = self._keys(np.repeat(self._order, self._parts.shape[1]))
        order = by_size(self._parts)
        above = np.take_along_axis(self._parts - self._rest, order, axis=1)
        return Table(
            keys | self._terms.rows(order, self._parts) | {"above_rest": Column.numbers(above.ravel())}
        )

    def summary_table(self) -> Table:
        total = self._total[None, :]
        order = by_size(total)
        columns = self._terms.rows(order, total)
        columns |= self._ranking(self._left_out or LeftOut.nothing(len(self._total)), order[0])
        return Table(columns)

    def sentences(self, cell_parts: Floats) -> tuple[str, ...]:
        ranked = self._parts[self._is_ranked]
        return sentences(Told(self._terms.symbols, self._names(), ranked, cell_parts, self._left_out))

    def _ranking(self, left_out: LeftOut, genes: Ints) -> dict[str, Column]:
        names, first, rank = self._names(), left_out.first[genes].tolist(), left_out.rank[genes]
        return {
            "rank_correlation": Column.numbers(left_out.correlation[genes]),
            "top_group": Column.text([names[i] if i >= 0 else None for i in first]),
            "top_group_rank": Column("integer", np.maximum(rank, 0), missing=rank < 0),
        }

    def _names(self) -> Sequence[str]:
        """Names of the groups that are ranked, best first."""
        keys = [column.to_list() for column in self._keys(self._order[self._is_ranked]).values()]
        if not keys:
            return ["all cells"] * int(self._is_ranked.sum())
        return [
            " · ".join("missing" if v is None else str(v) for v in key) for key in zip(*keys, strict=True)
        ]

    def _keys(self, which: Ints) -> dict[str, Column]:
        index = self._present.index[which]
        return {field: column.take(index) for field, column in self._grouping.group_keys.items()}
