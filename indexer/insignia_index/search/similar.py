"""Similar cells: the inner product of every cell's attributions with the profile of chosen cells."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.search.cells import find_cells
from insignia_index.search.choice import SPARSE, choose_engine
from insignia_index.search.engine import Session, answer
from insignia_index.search.grouping import Grouping, without_cells
from insignia_index.search.plan import Query, plan_query, query_of
from insignia_index.search.profiles import Chosen, mean_profile
from insignia_index.search.scoring import score_dtype
from insignia_index.snapshot import Snapshot
from insignia_model.errors import EmptyProfile, InvalidArgument
from insignia_model.genes import GeneReport, Themselves
from insignia_model.result import SearchResult
from insignia_model.similar import SimilarRequest

Ints = npt.NDArray[np.int64]


def similar(
    session: Session,
    request: SimilarRequest,
    cancel: CancelToken,
    n_threads: int | None = None,
    max_groups: int | None = None,
) -> SearchResult:
    """Answer a request: from the exact scores of all cells that may be found, or from what FAISS proposes.

    ``max_groups``: as in `search`.
    """
    started = time.perf_counter()
    plan = plan_similar(session, request, cancel, n_threads)
    plan.grouping.check_size(max_groups)
    choice = choose_engine(session, request, plan.grouping)

    def whole() -> SearchResult:
        work = session.work(plan.without_query(session.snapshot), cancel, n_threads)
        postings = session.genes.in_place(plan.query.gene_ids)
        return answer(session, request, plan.query, postings, work, started)

    if choice.engine == SPARSE:
        return whole()
    from insignia_index.search.by_faiss import by_faiss, with_groups

    found = by_faiss(
        session, request, plan.query, plan.grouping, choice, cancel, started, left_out=plan.query_rows
    )
    return with_groups(found, whole()) if choice.groups else found


@dataclass(frozen=True, slots=True)
class SimilarPlan:
    """The profile as a query, the cells that pass the filter, and rows int64 (n,) of the query's cells."""

    query: Query
    grouping: Grouping
    query_rows: Ints

    def without_query(self, snapshot: Snapshot) -> Grouping:
        """The cells that may be found."""
        if not len(self.query_rows):
            return self.grouping
        return without_cells(snapshot, self.grouping, self.query_rows)


def plan_similar(
    session: Session, request: SimilarRequest, cancel: CancelToken, n_threads: int | None
) -> SimilarPlan:
    """Read the profile, and look up the cells that pass."""
    snapshot = session.snapshot
    if request.profile is not None:
        grouping = session.groupings.get(request.group_by, request.where, None)
        query = plan_query(snapshot, request.profile, "sum", request.strict)
        return SimilarPlan(query, grouping, np.empty(0, np.int64))
    rows = np.empty(0, np.int64) if request.centroid is not None else rows_of(snapshot, request)
    if len(rows) == 1 and session.dense is not None and session.dense.has_row(int(rows[0])):
        profile = session.dense.profile(int(rows[0]))  # from one place, not from one for every gene
        n_cells, studies = 1, studies_of(snapshot, rows)
    else:
        chosen = _chosen(session, request, rows)
        n_cells, studies = chosen.n_cells, chosen.studies(snapshot)
        profile = _mean(session, chosen, cancel, n_threads)
    others = ~studies if request.exclude_study else None
    grouping = session.groupings.get(request.group_by, request.where, others)
    query = _query(session, request, n_cells, profile)
    # where their study is left out, so are they
    return SimilarPlan(query, grouping, rows if others is None else np.empty(0, np.int64))


def _chosen(session: Session, request: SimilarRequest, rows: Ints) -> Chosen:
    """Cells whose mean is the profile."""
    if request.centroid is None:
        return Chosen.of_rows(session.snapshot, rows)
    chosen = Chosen.passing(session.groupings.get((), request.centroid, None))
    if not chosen.n_cells:
        raise EmptyProfile(request.name, "there are no such cells")
    return chosen


def rows_of(snapshot: Snapshot, request: SimilarRequest) -> Ints:
    """Rows of the snapshot of the request's cells, int64 (n,), ascending, each once."""
    study, row = find_cells(snapshot, request.cells)
    rows: Ints = snapshot.study_starts[study] + row
    return rows if len(rows) == 1 else np.unique(rows)


def studies_of(snapshot: Snapshot, rows: Ints) -> npt.NDArray[np.bool_]:
    """Which studies rows are of, bool (n_studies,)."""
    found = np.zeros(len(snapshot.studies), np.bool_)
    found[snapshot.study_starts.searchsorted(rows, side="right") - 1] = True
    return found


def _mean(
    session: Session, chosen: Chosen, cancel: CancelToken, n_threads: int | None
) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Genes that are not 0, ascending, and the mean attributions of the chosen cells."""
    work = session.work(session.groupings.get((), (), None), cancel, n_threads)
    profile = mean_profile(work, chosen, session.value_bits == 16)
    gene_ids = np.flatnonzero(profile)
    return gene_ids, profile[gene_ids]


def _query(
    session: Session, request: SimilarRequest, n_cells: int, profile: tuple[Ints, npt.NDArray[np.float64]]
) -> Query:
    snapshot, (gene_ids, weights) = session.snapshot, profile
    if not len(gene_ids):
        problem = "the cell has no attributions"
        if n_cells > 1:
            problem = f"the mean of its {n_cells:,} cells is 0 everywhere"
        raise EmptyProfile(request.name, problem)
    _check_size(weights, score_dtype(session.value_bits))
    genes = snapshot.genes
    names = Themselves(len(gene_ids), lambda: [genes[gene] for gene in gene_ids.tolist()])
    return query_of(snapshot, gene_ids, weights, "sum", GeneReport(names))


@lru_cache
def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    limits = np.finfo(dtype)
    return float(limits.tiny) ** 0.4, float(limits.max) ** 0.4


def _check_size(weights: npt.NDArray[np.float64], dtype: npt.DTypeLike) -> None:
    """Raise unless squares of the profile are far from the ends of what scores of ``dtype`` can hold."""
    largest = float(np.abs(weights).max())
    least, most = _limits(np.dtype(dtype))
    if not least < largest < most:
        raise InvalidArgument(
            "query",
            f"its largest attribution is {largest:g}, whose square does not fit a score; build the atlas of "
            "attributions of another scale, or with --value-dtype float32",
        )
