"""Many signatures over all cells: blocks of cells outside, signatures inside.

A batch of signatures is scored together: every block's containers are expanded once for all of them. Then
each signature's cut-off, hits and groups are what a single search makes of the same scores.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.kernels.columns import (
    MODERATE,
    SPAN_CELLS,
    SPAN_TILES,
    SUMS_PAD,
    score_signatures,
)
from insignia_index.kernels.score import MAXIMUM
from insignia_index.kernels.summarise import CELLS, MEAN
from insignia_index.kernels.tile_words import TILE_CELLS
from insignia_index.null.small_groups import untested
from insignia_index.search.engine import Session
from insignia_index.search.finalise import Units, group_columns
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query, plan_query
from insignia_index.search.read_ahead import Item, Planned, ReadAhead
from insignia_index.search.scoring import Work, score_all, score_dtype
from insignia_index.search.screen_genes import GroupGenes, MeanRows, leading_genes, posting_means
from insignia_index.search.select import select
from insignia_index.search.tasks import BackgroundThreads
from insignia_index.snapshot import Snapshot
from insignia_model.errors import RequestError
from insignia_model.screen import ScreenChunk, ScreenPlan, ScreenRequest, SkippedSignature
from insignia_model.table import Column, Table

#: Memory for the scores and statistics of a batch, and for the sums that its threads work in.
MEMORY_BYTES = 3 << 29
#: Of fewer signatures sorting and expanding the blocks would be a large part of the work.
_MAX_BATCH = 1_700
#: Bytes of a chunk's rows, as reckoned by `_row_bytes`; those of one signature come on top.
CHUNK_BYTES = 16 << 20
#: Columns of a group if mean scores alone are asked for.
MEAN_COLUMNS = ("n_cells", "mean", "n_samples", "n_genes_measured")
NULL_COLUMNS = ("null_mean", "null_sd", "null_z", "null_p")
#: Slots are numbered by uint16.
_MAX_GENES = 1 << 16

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_Groups = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]  #: as `Units.groups` has them


class Screening:
    """One screen: what is the same for all of its signatures."""

    def __init__(
        self, session: Session, threads: BackgroundThreads, request: ScreenRequest, cancel: CancelToken,
        memory_bytes: int = MEMORY_BYTES, chunk_bytes: int | None = None, max_groups: int | None = None,
    ) -> None:  # fmt: skip
        self._session = session
        self._threads = threads
        self._request = request
        self._cancel = cancel
        self._grouping = session.groupings.get(request.group_by, request.where, None)
        self._grouping.check_size(max_groups)
        self._dtype = score_dtype(session.value_bits)
        n_cells, n_slots = session.snapshot.n_cells, len(self._grouping.slot_unit)
        self._block_cells = int(session.snapshot.block_cells.max(initial=0))
        sums = threads.n_threads * (self._block_cells + SUMS_PAD) * np.dtype(np.float32).itemsize
        one = n_cells * np.dtype(self._dtype).itemsize + n_slots * 3 * 8 + sums
        n = max(1, min(_MAX_BATCH, memory_bytes // max(1, one)))
        self.plan = ScreenPlan(self._grouping.n_cells, n, n * one)
        self._scores = np.empty((0, n_cells), self._dtype)
        wants_genes = request.hits is None or request.null or request.n_leading > 0
        self._genes = GroupGenes.of(session, self._grouping, request, cancel) if wants_genes else None
        self._chunk_rows = max(1, min(chunk_bytes or CHUNK_BYTES, CHUNK_BYTES) // _row_bytes(request))
        self._mean_rows = MeanRows(self._grouping, request.min_cells)
        # no method of this object: its arrays would wait for the garbage collector, and be gigabytes by then
        self._planned = partial(plan_item, session.snapshot, request)
        self._ahead = ReadAhead(iter(()), 1, self._planned)

    def chunks(self, items: Iterable[Item]) -> Generator[ScreenChunk, None, None]:
        """Rows of the signatures, scored a batch at a time, of which the next is read meanwhile."""
        self._ahead = ReadAhead(iter(items), self.plan.n_per_batch, self._planned)
        is_empty = True
        try:
            while batch := self._ahead.take():
                is_empty = False
                yield from self._chunks(batch)
        except KeyboardInterrupt:
            self._cancel.cancel()  # the threads, which nobody waits for any more
            raise
        if is_empty:  # the columns
            rows = _Rows(self._grouping, self._request)
            rows.skip("", "")
            yield ScreenChunk(0, rows.chunk().table.head(0))

    def _chunks(self, batch: list[Planned]) -> Iterator[ScreenChunk]:
        queries = [query for _, query in batch if isinstance(query, Query)]
        found = iter(self._found(queries) if queries else ())
        rows = _Rows(self._grouping, self._request)
        for item, query in batch:
            if isinstance(query, Query):
                rows.add(item.name, query, next(found))
            else:
                rows.skip(item.name, query)
            if rows.n_rows >= self._chunk_rows:
                yield rows.chunk()
                rows = _Rows(self._grouping, self._request)
        if rows.n_signatures:  # without a row too, where the filter lets no cell pass
            yield rows.chunk()

    def _found(self, queries: list[Query]) -> Iterator[_Found]:
        """Groups of every signature, best first, and what is asked of them besides."""
        request, genes = self._request, self._genes
        if request.hits is None and genes is not None:
            means = genes.means(queries)
            groups = [self._mean_rows.of(query, means[i]) for i, query in enumerate(queries)]
        else:
            groups = self._groups(queries)
            if request.hits is None:
                groups = [_by_mean(*each) for each in groups]
        null = genes.null_columns(queries, self._cancel) if request.null and genes is not None else {}
        leading = self._leading(queries)
        for i, (query, (index, counts, figures)) in enumerate(zip(queries, groups, strict=True)):
            names = leading(query, index)
            columns = {name: v[i, index] for name, v in null.items()}
            if columns:
                untested(columns, counts[CELLS] < request.min_cells)
            yield _Found(index, counts, figures, columns, names)

    def _leading(self, queries: list[Query]) -> Callable[[Query, Ints], list[str]]:
        """What names the leading genes of a query in groups; nothing if they are not asked for."""
        n, genes, names = self._request.n_leading, self._genes, self._session.snapshot.genes
        if n == 0:
            return lambda query, groups: []
        if genes is not None:
            return lambda query, groups: leading_genes(query, names, genes.of_query(query), groups, n)
        ids, sums = posting_means(self._work(), self._session, queries)

        def of_postings(query: Query, groups: Ints) -> list[str]:
            return leading_genes(query, names, sums[np.searchsorted(ids, query.gene_ids)], groups, n)

        return of_postings

    def _groups(self, queries: list[Query]) -> list[_Groups]:
        """Groups of every signature; the totals of its samples, of which there may be many, are not kept."""
        found: list[_Groups | None] = [None] * len(queries)
        alone = self._session.work(self._grouping, self._cancel, 1)
        scores, statistics = self._scored(queries)

        def finish(i: int) -> None:
            hits = np.zeros(len(self._grouping.slot_unit), np.int64)
            if self._request.hits is not None:
                hits = select(alone, scores[i], statistics[i], self._request.hits, 0).slot_hits
            measured, min_cells = queries[i].measured, self._request.min_cells
            found[i] = Units(self._grouping, statistics[i], hits, measured, min_cells).groups

        self._work().run(finish, len(queries))
        return [groups for groups in found if groups is not None]

    def _work(self) -> Work:
        session, threads = self._session, self._threads
        return Work(
            session.snapshot, self._grouping, threads, session.buffers, self._cancel, threads.n_threads
        )

    def _scored(self, queries: list[Query]) -> tuple[npt.NDArray[np.floating], Floats]:
        """Scores (n_queries, n_cells) and slot statistics (n_queries, n_slots, 3) of a batch."""
        session, n = self._session, len(queries)
        if len(self._scores) < n:  # the first batch is the largest: later ones find its memory mapped
            self._scores = np.empty((n, session.snapshot.n_cells), self._dtype)
        scores = self._scores[:n]
        statistics = np.zeros((n, len(self._grouping.slot_unit), 3))
        statistics[:, :, MAXIMUM] = -np.inf  # of the slots of blocks that nobody visits
        if session.value_bits == 16:
            for part in _parts(queries):
                if len(queries[part.start].gene_ids) > _MAX_GENES:  # a part of its own
                    statistics[part.start] = self._score_alone(queries[part.start], scores[part.start])
                else:
                    self._score(queries[part], scores[part], statistics[part])
        else:
            for i, query in enumerate(queries):
                statistics[i] = self._score_alone(query, scores[i])
        return scores, statistics

    def _score_alone(self, query: Query, scores: npt.NDArray[np.floating]) -> Floats:
        postings = self._session.genes.get(query.gene_ids)
        return score_all(self._work(), query, postings, self._session.value_bits, scores)

    def _check(self, gene_ids: npt.NDArray[np.int64]) -> None:
        """Check containers on all threads; no lock is held while they are waited for."""
        snapshot = self._session.snapshot
        fresh = snapshot.unchecked(gene_ids)
        if len(fresh):
            blocks = len(snapshot.table)
            self._work().run(lambda block: snapshot.check_in_block(block, fresh), blocks)
            snapshot.mark_checked(fresh)

    def _score(self, queries: list[Query], scores: npt.NDArray[np.floating], statistics: Floats) -> None:
        snapshot, grouping = self._session.snapshot, self._grouping
        batch = _Batch.of(queries)
        self._check(batch.gene_ids)
        claimed = np.zeros(1, np.int64)

        def score() -> None:
            room = batch.room(self._block_cells)
            more = True
            while more:
                self._cancel.check()
                more = score_signatures(
                    snapshot.table, grouping.blocks, claimed, batch.gene_ids,
                    batch.starts, batch.members, batch.weights, batch.divisors,
                    batch.is_plain, batch.are_moderate, *room,
                    grouping.order, grouping.order_starts, grouping.slot_starts, scores, statistics,
                )  # fmt: skip

        self._threads.share(score, self._threads.n_threads, meanwhile=self._ahead.read)


def plan_item(snapshot: Snapshot, request: ScreenRequest, item: Item) -> Query | str:
    """What to score, or the reason why nothing can be."""
    if isinstance(item, SkippedSignature):
        return item.reason
    try:
        return plan_query(snapshot, item, request.aggregate, request.strict)
    except RequestError as error:
        return str(error)


def _row_bytes(request: ScreenRequest) -> int:
    """Bytes of a row, at most but for long names: columns, and names of genes."""
    return 200 + 10 * request.n_leading


def _parts(queries: list[Query]) -> Iterator[slice]:
    """Runs of queries that have at most _MAX_GENES genes together."""
    first, genes = 0, np.empty(0, np.int64)
    for i, query in enumerate(queries):
        together = (
            np.union1d(genes, query.gene_ids) if len(genes) + len(query.gene_ids) > _MAX_GENES else None
        )
        if together is not None and len(together) > _MAX_GENES and i > first:
            yield slice(first, i)
            first, together = i, query.gene_ids
        genes = np.concatenate([genes, query.gene_ids]) if together is None else together
    if queries:
        yield slice(first, len(queries))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Queries as `score_signatures` takes them."""

    gene_ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    members: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]
    divisors: npt.NDArray[np.float32]
    is_plain: npt.NDArray[np.bool_]
    are_moderate: bool

    @classmethod
    def of(cls, queries: list[Query]) -> _Batch:
        genes = np.concatenate([query.gene_ids for query in queries])
        union, members = np.unique(genes, return_inverse=True)
        starts = np.concatenate([[0], np.cumsum([len(query.gene_ids) for query in queries])])
        weights = np.concatenate([query.weights for query in queries]).astype(np.float32)
        firsts = weights[starts[:-1]]
        is_one = np.logical_and.reduceat(weights == np.repeat(firsts, np.diff(starts)), starts[:-1])
        sizes = np.abs(weights)
        return cls(
            gene_ids=union,
            starts=starts,
            members=members.astype(np.int32),
            weights=weights,
            divisors=np.array([query.divisor for query in queries], np.float32),
            is_plain=is_one & (np.frexp(firsts)[0] == 0.5),
            are_moderate=bool(sizes.min() >= 1 / MODERATE and sizes.max() <= MODERATE),
        )

    def room(self, block_cells: int) -> tuple[npt.NDArray[np.generic], ...]:
        """What a thread works in; ``block_cells``: cells of the largest block."""
        n, n_members, n_sets = len(self.gene_ids), len(self.members) + 1, len(self.divisors)
        return (
            np.empty(n, np.uint64), np.empty(n, np.int32),
            np.empty((3, n), np.uint64), np.empty(n, np.float32),
            np.empty(n_members, np.uint16), np.empty(n_members, np.float32),
            np.empty(n_members, np.uint16), np.empty(n_members, np.float32), np.empty((n_sets, 3), np.int64),
            np.empty(n_sets, np.bool_), np.empty(n_sets, np.float32),
            np.empty((SPAN_TILES, n), np.uint32), np.empty(SPAN_CELLS * n + TILE_CELLS, np.uint16),
            np.empty(TILE_CELLS * n + 16, np.float32), np.empty((n_sets, block_cells + SUMS_PAD), np.float32),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Found:
    """Groups of a signature int64 (n,), best first: counts (4, n), figures (6, n), other columns (n,)."""

    groups: Ints
    counts: Ints
    figures: Floats
    null: dict[str, Floats]
    leading: list[str]


class _Rows:
    """Rows of a batch as they come; a signature that was skipped has one, with the reason."""

    def __init__(self, grouping: Grouping, request: ScreenRequest) -> None:
        self._grouping = grouping
        self._request = request
        self._names: list[str] = []
        self._found: list[_Found] = []
        self._genes: list[tuple[int, int]] = []
        self._reasons: list[str | None] = []
        self.n_rows = 0

    def add(self, name: str, query: Query, found: _Found) -> None:
        """Rows of a signature: one per group that has cells."""
        n_missing = len(query.report.missing) + len(query.report.ambiguous)
        self._add(name, found, (len(query.gene_ids), n_missing), None)

    def skip(self, name: str, reason: str) -> None:
        """One row that says why there are no others."""
        nothing = np.full(1, np.nan)
        null = dict.fromkeys(NULL_COLUMNS, nothing) if self._request.null else {}
        found = _Found(np.full(1, -1), np.zeros((4, 1), np.int64), np.full((6, 1), np.nan), null, [""])
        self._add(name, found, (0, 0), reason)

    def _add(self, name: str, found: _Found, genes: tuple[int, int], reason: str | None) -> None:
        self._names.append(name)
        self._found.append(found)
        self._genes.append(genes)
        self._reasons.append(reason)
        self.n_rows += len(found.groups)

    @property
    def n_signatures(self) -> int:
        """Signatures so far."""
        return len(self._names)

    def chunk(self) -> ScreenChunk:
        """All rows."""
        return ScreenChunk(len(self._names), self._table())

    def _table(self) -> Table:
        found, request = self._found, self._request
        row_of = np.repeat(np.arange(len(found)), [len(f.groups) for f in found])
        groups = np.concatenate([f.groups for f in found])
        skipped = groups < 0
        counts = np.concatenate([f.counts for f in found], axis=1)
        columns = group_columns(counts, np.concatenate([f.figures for f in found], axis=1))
        if request.hits is None:
            columns = {name: columns[name] for name in MEAN_COLUMNS}
        genes = np.array(self._genes, np.int64)[row_of]
        columns["n_genes"] = Column("integer", genes[:, 0])
        columns["n_genes_missing"] = Column("integer", genes[:, 1])
        for name in NULL_COLUMNS if request.null else ():
            columns[name] = Column.numbers(np.concatenate([f.null[name] for f in found]))
        if request.n_leading:
            columns["leading_genes"] = Column.text([names or None for f in found for names in f.leading])
        keys = {field: _keys(column, groups) for field, column in self._grouping.group_keys.items()}
        if skipped.any():
            keys, columns = _without(keys, skipped), _without(columns, skipped)
        names = Column.text(self._names).take(row_of)
        reasons = Column.text(self._reasons).take(row_of)
        return Table({"signature": names} | keys | columns | {"reason": reasons})


def _keys(column: Column, groups: npt.NDArray[np.int64]) -> Column:
    """Values of a key at ``groups``, any value where there is none (-1)."""
    if not len(column):  # an atlas without cells has no group whose value could stand in
        column = replace(column, values=np.zeros(1, column.values.dtype), dictionary=("",), missing=None)
    return column.take(groups)


def _by_mean(groups: Ints, counts: Ints, figures: Floats) -> tuple[Ints, Ints, Floats]:
    """The same groups, highest mean first; ties as they were in the grouping."""
    order = np.lexsort((groups, -figures[MEAN]))
    return groups[order], counts[:, order], figures[:, order]


def _without(columns: dict[str, Column], rows: npt.NDArray[np.bool_]) -> dict[str, Column]:
    """The columns with missing values in ``rows``, bool (n,)."""
    return {name: column.without(rows) for name, column in columns.items()}
