"""The sparse engine: plan, scatter, merge, finalise."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.search.cells import cell_table, places
from insignia_index.search.choice import SPARSE, Question, choose_engine
from insignia_index.search.contributions import score_parts
from insignia_index.search.finalise import Units, group_quantiles
from insignia_index.search.gene_cache import GeneCache, Postings
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Groupings, Query, plan_query
from insignia_index.search.scoring import Work, score_all, score_dtype
from insignia_index.search.select import Selection, select
from insignia_index.search.tasks import TASK_CELLS, Buffers, Threads
from insignia_index.snapshot import Snapshot
from insignia_model.hits import HitRule
from insignia_model.request import SearchRequest
from insignia_model.result import ScoreChunk, ScoreStream, SearchResult
from insignia_model.table import Table

if TYPE_CHECKING:
    from insignia_index.dense.dense import Dense
    from insignia_index.gpu.engine import OnDevice
    from insignia_index.null.answer import Nulls

NAME = SPARSE


@dataclass(frozen=True, slots=True)
class Session:
    """One snapshot and what its searches share."""

    snapshot: Snapshot
    groupings: Groupings
    genes: GeneCache
    buffers: Buffers
    threads: Threads
    dense: Dense | None = None
    device: OnDevice | None = None
    _nulls: list[Nulls] = field(default_factory=list)
    _nulls_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def nulls(self) -> Nulls:
        """Pseudobulk and nulls of the snapshot; raises `NoPseudobulk`."""
        with self._nulls_lock:
            if not self._nulls:
                from insignia_index.null.answer import Nulls  # scipy, which other searches do not need

                self._nulls.append(Nulls(self.snapshot))
            return self._nulls[0]

    @property
    def value_bits(self) -> int:
        """Bits of a stored value."""
        return self.snapshot.record.value_bits

    def work(self, grouping: Grouping, cancel: CancelToken, n_threads: int | None) -> Work:
        """A search's share of the session."""
        n = min(n_threads or self.threads.n_threads, self.threads.n_threads)
        return Work(self.snapshot, grouping, self.threads, self.buffers, cancel, n)

    def grouping(self, request: SearchRequest, query: Query) -> Grouping:
        """Cells that pass the request's filter, by its groups."""
        enough = None
        if request.min_coverage > 0:
            # a quotient, not a product: 0.07 * 100 is above 7
            enough = query.measured / len(query.gene_ids) >= request.min_coverage
        return self.groupings.get(request.group_by, request.where, enough)


def search(
    session: Session,
    request: SearchRequest,
    cancel: CancelToken,
    n_threads: int | None = None,
    max_groups: int | None = None,
) -> SearchResult:
    """Answer a request: from the exact scores of all cells that pass, or from what FAISS proposes.

    More groups, or samples in them, than ``max_groups`` are refused with `LimitExceeded`.
    """
    started = time.perf_counter()
    query = plan_query(session.snapshot, request.signature, request.aggregate, request.strict)
    grouping = session.grouping(request, query)
    grouping.check_size(max_groups)
    choice = choose_engine(session, request, grouping)
    work = session.work(grouping, cancel, n_threads)

    def whole() -> SearchResult:
        return answer(session, request, query, session.genes.get(query.gene_ids), work, started)

    if choice.engine == SPARSE:
        return whole()
    from insignia_index.search.by_faiss import by_faiss, with_groups

    found = by_faiss(session, request, query, grouping, choice, cancel, started)
    return with_groups(found, whole()) if choice.groups else found


def answer(
    session: Session, request: Question, query: Query, postings: Postings, work: Work, started: float
) -> SearchResult:
    """Score all cells of ``work`` with the query, and make the tables; ``started`` by `time.perf_counter`."""
    snapshot, grouping = session.snapshot, work.grouping
    scores = session.buffers.take("scores", snapshot.n_cells, score_dtype(session.value_bits))
    has_tests = isinstance(request, SearchRequest) and request.has_tests
    statistics, selection = score_and_select(
        session, work, query, postings, scores, request.hits, request.k, request.quantiles or has_tests
    )
    units = Units(grouping, statistics, selection.slot_hits, query.measured, request.min_cells)
    quantiles = group_quantiles(snapshot, grouping, scores, work.cancel) if request.quantiles else None
    tests = Table({})
    if isinstance(request, SearchRequest) and request.has_tests:
        tests = _tests(session, request, query, units, scores, selection, work.cancel)
    session.buffers.give("scores", scores)
    rows = selection.top_rows
    parts = None
    if isinstance(request, SearchRequest):  # the values of a whole profile in k cells are too many to hold
        parts = score_parts(work, query, postings, session.value_bits, rows)
    cells = cell_table(snapshot, *places(snapshot, rows), selection.top_scores, parts)
    groups = units.group_table(quantiles)
    if isinstance(request, SearchRequest) and request.null:
        from insignia_index.null.answer import with_null

        null = session.nulls.columns(query, grouping, request.group_by, request.where, work.cancel)
        groups = with_null(groups, units.groups[0], null, request.min_cells)
    samples = units.sample_table()
    return SearchResult(
        engine=NAME,
        aggregate=request.aggregate,
        hits=str(request.hits),
        n_cells=grouping.n_cells,
        n_hits=selection.n_hits,
        cutoff=selection.cutoff,
        elapsed_ms=1000 * (time.perf_counter() - started),
        genes=query.report,
        group_by=request.group_by,
        cell_table=cells,
        group_table=groups,
        sample_table=samples,
        signature=request.name,
        min_cells=request.min_cells,
        test_table=tests,
        unsigned_atlas=snapshot.is_unsigned,
        negative_weights=request.has_negative,
    )


def score_and_select(
    session: Session,
    work: Work,
    query: Query,
    postings: Postings,
    scores: npt.NDArray[Any],
    rule: HitRule,
    k: int,
    wants_scores: bool,
) -> tuple[npt.NDArray[np.float64], Selection]:
    """Statistics of the slots and the selection, from the session's device if it has one.

    ``scores`` (n_cells,) is room to work in; it has all scores in the end if the caller ``wants_scores``.
    """
    if session.device is not None:
        return session.device.answer(work, query, postings, scores, rule, k, wants_scores)
    statistics = score_all(work, query, postings, session.value_bits, scores)
    return statistics, select(work, scores, statistics, rule, k)


def _tests(
    session: Session,
    request: SearchRequest,
    query: Query,
    units: Units,
    scores: npt.NDArray[Any],
    selection: Selection,
    cancel: CancelToken,
) -> Table:
    # here: scipy's statistics take a second to import, which only who asks for tests should wait for
    from insignia_index.search.comparisons import regroup, test_table

    def regrouped(field: str) -> Units:
        grouping = session.grouping(replace(request, group_by=(field,)), query)
        statistics, hits = regroup(session.snapshot, grouping, scores, selection, request.hits.kind)
        return Units(grouping, statistics, hits, query.measured, request.min_cells)

    return test_table(request, units, regrouped, cancel)


def stream_scores(
    session: Session, request: SearchRequest, cell_ids: bool, cancel: CancelToken
) -> ScoreStream:
    """Scores of the cells that pass: checked and planned now, scored study by study as they are asked for."""
    query = plan_query(session.snapshot, request.signature, request.aggregate, request.strict)
    grouping = session.grouping(request, query)
    postings = session.genes.get(query.gene_ids)
    return ScoreStream(_chunks(session, query, postings, grouping, cell_ids, cancel), query.report)


def _chunks(
    session: Session,
    query: Query,
    postings: Postings,
    grouping: Grouping,
    cell_ids: bool,
    cancel: CancelToken,
) -> Generator[ScoreChunk, None, None]:
    snapshot = session.snapshot
    out = np.empty(snapshot.n_cells, score_dtype(session.value_bits))
    batch_cells = TASK_CELLS * session.threads.n_threads
    batches = np.cumsum(snapshot.block_cells[grouping.blocks]) // batch_cells
    for batch in np.split(grouping.blocks, np.flatnonzero(np.diff(batches)) + 1):
        work = session.work(replace(grouping, blocks=batch), cancel, None)
        score_all(work, query, postings, session.value_bits, out)
        for block in batch.tolist():
            yield _chunk(snapshot, grouping, block, out, cell_ids)


def _chunk(
    snapshot: Snapshot, grouping: Grouping, block: int, out: npt.NDArray[Any], cell_ids: bool
) -> ScoreChunk:
    rows = snapshot.block_starts[block] + grouping.block_cells(block)
    study = int(snapshot.block_study[block])
    local = rows - snapshot.study_starts[study]
    names = snapshot.cell_ids(study) if cell_ids else None
    return ScoreChunk(
        study=snapshot.studies[study].study,
        rows=local,
        scores=out[rows],
        cell_ids=() if names is None else tuple(names[row] for row in local.tolist()),
    )
