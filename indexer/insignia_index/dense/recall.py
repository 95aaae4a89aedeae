"""The recall gate: what share of the best cells FAISS finds, measured when the files are made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from insignia_index.cancel import CancelToken
from insignia_index.dense.dense import Dense
from insignia_index.dense.record import CurvePoint
from insignia_index.dense.reference import random_signatures, reference_signatures
from insignia_index.kernels.pseudobulk import count_cells
from insignia_index.search.plan import Query, resolve
from insignia_index.search.scoring import score_all, score_dtype
from insignia_model.genes import GeneReport

if TYPE_CHECKING:
    from insignia_index.search.engine import Session

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Question = tuple[Ints, Floats]

#: Kinds of questions, and whether heads choose among their candidates.
SIGNATURE, PROFILE = "signature", "profile"
BY_HEADS = {SIGNATURE: False, PROFILE: True}
#: Candidates at which recall is measured, and numbers of best cells that it is measured for.
CANDIDATES = (300, 1_000, 3_000, 6_000, 10_000)
BEST = (100, 1_000)
_PROFILES = 24
#: The worst to be expected of the reference questions lies so many standard deviations below their mean, if
#: none of them did worse. What can be counted on lies so many times as far below it, because others do worse
#: still: so that of 300 signatures and 500 cells that were not measured none did. Signatures differ more.
_DEVIATIONS = 3.0
_CAUTION = {SIGNATURE: 4.0, PROFILE: 3.0}


def measure(
    session: Session, dense: Dense, studies: Sequence[int], seed: int = 0
) -> dict[str, list[CurvePoint]]:
    """Recall against the exact engine by kind of question; profiles are of cells of the ``studies``.

    Few of the cells are among those that the codec was learned on, of which it has many thousands.
    """
    starts, rng = session.snapshot.study_starts, np.random.default_rng([seed, 2])
    # as many of a small study as of a large one: it may be what the codec does not know
    drawn = [int(rng.integers(starts[i], starts[i + 1])) for i in rng.choice(studies, _PROFILES)]
    questions = {
        SIGNATURE: list(_signatures(session, seed)),
        PROFILE: [dense.profile(c) for c in drawn],
    }
    asked = [(kind, *question) for kind, some in questions.items() for question in some]
    # each on a thread of its own: exact passes and FAISS are slowed down alike by the other
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda question: _answer(session, dense, *question), asked))
    return {
        kind: _curve(
            [answer for question, answer in zip(asked, answers, strict=True) if question[0] == kind], kind
        )
        for kind, some in questions.items()
        if some
    }


def _signatures(session: Session, seed: int) -> Iterator[Question]:
    snapshot = session.snapshot
    for signature in reference_signatures():
        _, ids = resolve(snapshot, signature.weights.keys())
        genes = np.unique(np.array(ids, np.int64))
        genes = genes[genes >= 0]
        if len(genes):
            yield genes, np.ones(len(genes))
    n_detecting = np.zeros(len(snapshot.genes))
    count_cells(snapshot.table, n_detecting)
    if n_detecting.any():
        for genes in random_signatures(n_detecting, seed):
            yield genes, np.ones(len(genes))


@dataclass(frozen=True, slots=True)
class _Answer:
    """Of one question, by number of candidates: recall (n, len(BEST)), NaN where it has no meaning, and time.

    ``share``: of the time of the exact engine.
    """

    grid: list[int]
    recall: Floats
    share: Floats


def _answer(session: Session, dense: Dense, kind: str, genes: Ints, weights: Floats) -> _Answer:
    n_cells = session.snapshot.n_cells
    grid = [n for n in CANDIDATES if n < n_cells] or [n_cells]
    recall, seconds = np.full((len(grid), len(BEST)), np.nan), np.zeros(len(grid))
    bounds, exact_seconds = _bounds(session, kind, genes, weights)
    for i, n in enumerate(grid):
        for j, k in enumerate(BEST):
            if k > min(n, n_cells):
                continue
            if j == 0 or BY_HEADS[kind]:  # else all candidates are scored, however many are asked for
                asked_for = k if BY_HEADS[kind] else min(n, BEST[-1])
                started = time.perf_counter()
                found = dense.find(genes, weights, asked_for, n, by_heads=BY_HEADS[kind])
                if j == 0:
                    seconds[i] = time.perf_counter() - started
            # a cell that ties with the k-th best is as good as it
            recall[i, j] = min(1.0, np.count_nonzero(found.scores >= bounds[k]) / k)
    return _Answer(grid, recall, seconds / exact_seconds)


def _curve(answers: Sequence[_Answer], kind: str) -> list[CurvePoint]:
    recall = np.stack([answer.recall for answer in answers], axis=-1)
    share = np.median([answer.share for answer in answers], axis=0)
    points = []
    for i, n in enumerate(answers[0].grid):
        # a number of best cells that were not asked for is NaN, of all questions alike
        known = {str(k): recall[i, j] for j, k in enumerate(BEST) if not np.isnan(recall[i, j, 0])}
        points.append(
            CurvePoint(
                n,
                {k: round(float(values.mean()), 4) for k, values in known.items()},
                {k: _low(values, _CAUTION[kind]) for k, values in known.items()},
                round(float(share[i]), 4),
            )
        )
    return points


def _low(values: Floats, caution: float) -> float:
    mean = float(values.mean())
    worst = min(float(values.min()), mean - _DEVIATIONS * float(values.std()))
    return round(max(0.0, mean - caution * (mean - worst)), 4)


def _bounds(session: Session, kind: str, genes: Ints, weights: Floats) -> tuple[Mapping[int, float], float]:
    """Exact score of the k-th best cell for every k of BEST, a little below it for rounding; and the time."""
    snapshot = session.snapshot
    started = time.perf_counter()
    work = session.work(session.groupings.get((), (), None), CancelToken(), 1)
    scores = session.buffers.take("scores", snapshot.n_cells, score_dtype(session.value_bits))
    query = Query(genes, weights, 1.0, np.empty(0, np.int64), GeneReport({}))
    # as a search takes them, see `search.similar`
    postings = session.genes.in_place(genes) if kind == PROFILE else session.genes.get(genes)
    score_all(work, query, postings, session.value_bits, scores)
    taken = time.perf_counter() - started
    # a sort of all of them takes half as long as the scores do
    places = [len(scores) - min(k, len(scores)) for k in BEST]
    ordered = np.partition(scores, [*places, len(scores) - 1]).astype(np.float64)
    session.buffers.give("scores", scores)
    slack = 1e-5 * abs(float(ordered[-1]))
    return {k: float(ordered[at]) - slack for k, at in zip(BEST, places, strict=True)}, taken


def promised(points: Sequence[CurvePoint], k: int, is_filtered: bool = False) -> list[float]:
    """Recall of the best ``k`` that can be counted on at each point; 0 where none was measured.

    Between two measured k the worse counts. So it does under a filter: the best of the cells that pass are
    cells of lower rank among all.
    """
    found = []
    for point in points:
        known = [best for best in BEST if str(best) in point.low]
        larger = [best for best in known if best >= k]
        counts = known if is_filtered else [best for best in known if best <= larger[0]] if larger else []
        found.append(min(point.low[str(best)] for best in counts) if larger else 0.0)
    return found


def expected(points: Sequence[CurvePoint], k: int, n_candidates: int, is_filtered: bool = False) -> float:
    """Recall of the best ``k`` that can be counted on with so many candidates; 0 if nothing was measured."""
    reached = [point for point in points if point.candidates <= n_candidates]
    return promised(reached[-1:], k, is_filtered)[0] if reached else 0.0
