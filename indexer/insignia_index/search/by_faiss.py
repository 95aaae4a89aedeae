"""Answers whose best cells FAISS proposed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.dense.recall import BY_HEADS, PROFILE, SIGNATURE
from insignia_index.search.cells import cell_table, places
from insignia_index.search.choice import FAISS, Choice, Question
from insignia_index.search.contributions import score_parts
from insignia_index.search.engine import Session
from insignia_index.search.grouping import Grouping
from insignia_index.search.plan import Query
from insignia_index.search.scoring import Work, score_dtype
from insignia_index.snapshot import Snapshot
from insignia_model.request import SearchRequest
from insignia_model.result import SearchResult
from insignia_model.table import Table

Ints = npt.NDArray[np.int64]


def by_faiss(
    session: Session,
    request: Question,
    query: Query,
    grouping: Grouping,
    choice: Choice,
    cancel: CancelToken,
    started: float,
    left_out: Ints | None = None,
) -> SearchResult:
    """The best cells of those that FAISS proposes, scored exactly; no groups.

    ``left_out`` int64 (n,): rows of the cells whose profile is the query, not to be found although they pass.
    """
    snapshot, dense = session.snapshot, session.dense
    assert dense is not None  # noqa: S101 (it was chosen because it is there)
    kind = SIGNATURE if isinstance(request, SearchRequest) else PROFILE
    passing = passing_cells(snapshot, grouping)
    left_out = np.empty(0, np.int64) if left_out is None else left_out
    # whose profile it is; of several it is their mean
    row = int(left_out[0]) if len(left_out) == 1 and dense.has_row(int(left_out[0])) else None
    if passing is not None and len(left_out):
        left_out = left_out[passing[left_out]]
    n_cells = grouping.n_cells - len(left_out)
    cancel.check()

    def found(n_candidates: int) -> tuple[Ints, npt.NDArray[Any], int]:
        # as many more as are then left out
        k = min(request.k, n_cells) + len(left_out)
        best = dense.find(query.gene_ids, query.weights, k, n_candidates, passing, BY_HEADS[kind], row)
        kept = _others(best.rows, left_out)
        return best.rows[kept][: request.k], best.scores[kept][: request.k], best.n_candidates

    rows, sums, n_candidates = found(choice.n_candidates)
    if len(rows) < min(request.k, n_cells):
        rows, sums, n_candidates = found(snapshot.n_cells)
    # nothing can be missed where all cells were scored, or none is asked for
    all_scored = n_candidates >= grouping.n_cells and not BY_HEADS[kind]
    exact = dense.is_exact or all_scored or request.k == 0
    return SearchResult(
        engine=FAISS,
        exact=exact,
        n_candidates=n_candidates,
        expected_recall=1.0 if exact else choice.expected_recall,
        aggregate=request.aggregate,
        hits=str(request.hits),
        n_cells=n_cells,
        n_hits=None,
        cutoff=None,
        elapsed_ms=1000 * (time.perf_counter() - started),
        genes=query.report,
        group_by=request.group_by,
        cell_table=_cells(session, request, query, session.work(grouping, cancel, None), rows, sums),
        group_table=Table({}),
        sample_table=Table({}),
        signature=request.name,
        min_cells=request.min_cells,
        unsigned_atlas=snapshot.is_unsigned,
        negative_weights=request.has_negative,
    )


def _others(rows: Ints, left_out: Ints) -> npt.NDArray[np.bool_]:
    """Which rows are not left out, bool (n,)."""
    # one is the rule, and compared in a fifth of the time
    return rows != left_out[0] if len(left_out) == 1 else np.isin(rows, left_out, invert=True)


def _cells(
    session: Session, request: Question, query: Query, work: Work, rows: Ints, sums: npt.NDArray[Any]
) -> Table:
    """The cells of the rows, whose weighted sums are ``sums``."""
    parts = None
    if isinstance(request, SearchRequest) and request.has_negative:
        parts = score_parts(work, query, session.genes.get(query.gene_ids), session.value_bits, rows)
    scores = (sums / query.divisor).astype(score_dtype(session.value_bits))
    return cell_table(session.snapshot, *places(session.snapshot, rows), scores, parts)


def with_groups(found: SearchResult, whole: SearchResult) -> SearchResult:
    """The cells that FAISS found, with what the exact scores of all cells say of groups."""
    return replace(
        whole,
        engine=found.engine,
        exact=found.exact,
        n_candidates=found.n_candidates,
        expected_recall=found.expected_recall,
        cell_table=found.cell_table,
    )


def passing_cells(snapshot: Snapshot, grouping: Grouping) -> npt.NDArray[np.bool_] | None:
    """Which cells pass, bool (n_cells,); None: all."""
    if grouping.n_cells == snapshot.n_cells:
        return None
    passing = np.zeros(snapshot.n_cells, np.bool_)
    passing[grouping.rows(snapshot)] = True
    return passing
