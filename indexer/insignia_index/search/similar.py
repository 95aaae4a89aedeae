"""Similar cells: the inner product of every cell's attributions with the profile of chosen cells."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.search.cells import find_cells
from insignia_index.search.choice import choose_engine
from insignia_index.search.engine import Session, answer
from insignia_index.search.grouping import Grouping, without_cells
from insignia_index.search.plan import Query, plan_query, query_of
from insignia_index.search.profiles import Chosen, mean_profile
from insignia_index.search.scoring import Work, score_dtype
from insignia_index.snapshot import Snapshot
from insignia_model.errors import EmptyProfile, InvalidArgument
from insignia_model.genes import GeneReport
from insignia_model.result import SearchResult
from insignia_model.similar import SimilarRequest


def similar(
    session: Session, request: SimilarRequest, cancel: CancelToken, n_threads: int | None = None
) -> SearchResult:
    """Answer a request from the exact scores of all cells that may be found."""
    started = time.perf_counter()
    choose_engine(session, request)
    query, grouping = plan_similar(session, request, cancel, n_threads)
    work = session.work(grouping, cancel, n_threads)
    return answer(session, request, query, session.genes.in_place(query.gene_ids), work, started)


def plan_similar(
    session: Session, request: SimilarRequest, cancel: CancelToken, n_threads: int | None
) -> tuple[Query, Grouping]:
    """The profile as a query, and the cells that may be found."""
    snapshot = session.snapshot
    if request.profile is not None:
        grouping = session.groupings.get(request.group_by, request.where, None)
        return plan_query(snapshot, request.profile, "sum", request.strict), grouping
    chosen, rows = _chosen(session, request)
    others = ~chosen.studies(snapshot) if request.exclude_study else None
    grouping = session.groupings.get(request.group_by, request.where, others)
    if others is None and len(rows):
        grouping = without_cells(snapshot, grouping, rows)
    return _query(session, request, chosen, session.work(grouping, cancel, n_threads)), grouping


def _chosen(session: Session, request: SimilarRequest) -> tuple[Chosen, npt.NDArray[np.int64]]:
    """Cells whose mean is the profile, and the rows of those that are not to be found."""
    snapshot = session.snapshot
    if request.centroid is None:
        rows = np.unique(rows_of(snapshot, request))
        return Chosen.of_rows(snapshot, rows), rows
    chosen = Chosen.passing(session.groupings.get((), request.centroid, None))
    if not chosen.n_cells:
        raise EmptyProfile(request.name, "there are no such cells")
    return chosen, np.empty(0, np.int64)


def rows_of(snapshot: Snapshot, request: SimilarRequest) -> npt.NDArray[np.int64]:
    """Rows of the snapshot of the request's cells, int64 (n,)."""
    study, row = find_cells(snapshot, request.cells)
    rows: npt.NDArray[np.int64] = snapshot.study_starts[study] + row
    return rows


def _query(session: Session, request: SimilarRequest, chosen: Chosen, work: Work) -> Query:
    snapshot = session.snapshot
    profile = mean_profile(work, chosen, session.value_bits == 16)
    gene_ids = np.flatnonzero(profile)
    weights = profile[gene_ids]
    if not len(gene_ids):
        n = chosen.n_cells
        problem = "the cell has no attributions" if n == 1 else f"the mean of its {n:,} cells is 0 everywhere"
        raise EmptyProfile(request.name, problem)
    _check_size(weights, score_dtype(session.value_bits))
    symbols = [snapshot.genes[gene] for gene in gene_ids.tolist()]
    return query_of(snapshot, gene_ids, weights, "sum", GeneReport(dict(zip(symbols, symbols, strict=True))))


def _check_size(weights: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> None:
    """Raise unless squares of the profile are far from the ends of what scores of ``dtype`` can hold."""
    largest = float(np.abs(weights).max())
    limits = np.finfo(dtype)
    if not float(limits.tiny) ** 0.4 < largest < float(limits.max) ** 0.4:
        raise InvalidArgument(
            "query",
            f"its largest attribution is {largest:g}, whose square does not fit a score; build the atlas of "
            "attributions of another scale, or with --value-dtype float32",
        )
