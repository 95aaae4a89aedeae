"""Which engine answers a request."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from insignia_index.search.grouping import Grouping
from insignia_model.errors import AtlasCorrupt, EngineUnavailable
from insignia_model.request import SearchRequest
from insignia_model.similar import SimilarRequest

if TYPE_CHECKING:
    from insignia_index.dense.dense import Dense
    from insignia_index.search.engine import Session

#: A question that ends in scores of all cells.
Question: TypeAlias = SearchRequest | SimilarRequest

log = logging.getLogger(__name__)

SPARSE, FAISS = "sparse", "faiss"
#: Candidates at least, for each cell that is asked for.
_CANDIDATES_A_CELL = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine; of FAISS also how many candidates it is to propose and the recall to count on.

    ``groups``: the exact scores of all cells are needed besides, for groups, tests or quantiles.
    """

    engine: str
    n_candidates: int = 0
    expected_recall: float = 1.0
    groups: bool = True


_EXACT = Choice(SPARSE)


def choose_engine(session: Session, request: Question, grouping: Grouping) -> Choice:
    """The engine that is to answer; raises `EngineUnavailable` if FAISS is asked for and cannot.

    "auto" is FAISS where nobody wants groups, the measured recall reaches the target and the measured time is
    the shorter; what needs the scores of all cells is answered by them, and so is all else while the files of
    FAISS are damaged.
    """
    wanted = _wants_groups(request)
    if request.engine == SPARSE or (request.engine == "auto" and (wanted or request.groups is not False)):
        return _EXACT
    dense = session.dense
    try:
        ready = _ready(dense)
        choice = _by_faiss(session, ready, request, grouping, wanted)
        if choice is not None:
            ready.load()  # only now: it may take a while
    except EngineUnavailable:
        if request.engine == FAISS:
            raise
        return _EXACT
    except AtlasCorrupt as error:  # or replaced by `retrain` since this revision was opened
        if request.engine == FAISS:
            raise
        log.warning("answered exactly: %s", error)
        return _EXACT
    return choice or _EXACT


def _wants_groups(request: Question) -> bool:
    """Whether something is asked for that only the scores of all cells can tell."""
    more = isinstance(request, SearchRequest) and (request.has_tests or request.null)
    return bool(request.groups or request.quantiles or more)


def _ready(dense: Dense | None) -> Dense:
    """The FAISS files, if all studies have some; raises `EngineUnavailable`."""
    if dense is None:
        raise EngineUnavailable(
            FAISS, "the atlas has no FAISS indexes", "make them with `insignia retrain`, or use engine auto"
        )
    if dense.missing:
        some = ", ".join(dense.missing[:3]) + (", ..." if len(dense.missing) > 3 else "")
        raise EngineUnavailable(
            FAISS, f"it has no index of {some}", "make it with `insignia retrain`, or use engine auto"
        )
    return dense


def _by_faiss(
    session: Session, dense: Dense, request: Question, grouping: Grouping, groups: bool
) -> Choice | None:
    """FAISS, if it is asked for or expected to be worth it; else None."""
    from insignia_index.dense.recall import PROFILE, SIGNATURE, expected, promised

    if dense.is_exact:
        return Choice(FAISS, groups=groups)
    kind = SIGNATURE if isinstance(request, SearchRequest) else PROFILE
    points, n_cells = dense.record.recall.get(kind, []), session.snapshot.n_cells
    # measured on signatures whose weights are positive: of others nothing is known
    is_known = kind == PROFILE or not request.has_negative
    is_filtered = grouping.n_cells < n_cells
    recalls = promised(points, request.k, is_filtered)
    reached = next((i for i, recall in enumerate(recalls) if recall >= request.recall_target), None)
    if request.engine == FAISS:
        # where the target is out of reach, or nothing was measured: what comes nearest to it
        most = points[-1 if reached is None else reached].candidates if points else n_cells
        n = max(most, _CANDIDATES_A_CELL * request.k)
        recall = expected(points, request.k, n, is_filtered) if is_known else 0.0
        return Choice(FAISS, n, recall, groups)
    # the exact engine reads as much less as fewer cells pass, FAISS does not
    share = grouping.n_cells / max(1, n_cells)
    if reached is None or not is_known or points[reached].share_of_exact >= share:
        return None
    return Choice(FAISS, points[reached].candidates, recalls[reached], groups)
