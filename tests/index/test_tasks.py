"""Threads that share the parts of one search."""

import threading
from pathlib import Path

import numpy as np
import pytest

from insignia_index import Atlas
from insignia_index.search import scoring
from insignia_index.search.tasks import Threads, split

from .made import build, study

WAIT_S = 10


@pytest.fixture
def threads() -> Threads:
    made = Threads(3)
    yield made
    made.close()


def test_helpers_and_the_caller_work_at_the_same_time(threads: Threads) -> None:
    together = threading.Barrier(3, timeout=WAIT_S)
    threads.share(together.wait, 3)


@pytest.mark.parametrize("n_threads", [0, 1])
def test_one_thread_is_the_callers(threads: Threads, n_threads: int) -> None:
    found: list[int] = []
    threads.share(lambda: found.append(threading.get_ident()), n_threads)
    assert found == [threading.get_ident()]


def test_the_caller_waits_for_a_helper_that_has_begun(threads: Threads) -> None:
    caller, begun, ended = threading.get_ident(), threading.Event(), []

    def work() -> None:
        if threading.get_ident() == caller:
            assert begun.wait(WAIT_S)
        else:
            begun.set()
            threading.Event().wait(0.05)
            ended.append(True)

    threads.share(work, 2)
    assert ended == [True]


def test_a_helper_that_is_busy_is_not_waited_for_and_begins_nothing_later(threads: Threads) -> None:
    busy, release = threading.Barrier(4, timeout=WAIT_S), threading.Event()

    def occupy() -> None:
        busy.wait()
        assert release.wait(WAIT_S)

    other = threading.Thread(target=threads.share, args=(occupy, 3))
    other.start()
    calls: list[int] = []
    try:
        busy.wait()  # its caller, both helpers, and this thread
        threads.share(lambda: calls.append(threading.get_ident()), 3)
        assert calls == [threading.get_ident()]
    finally:
        release.set()
        other.join(WAIT_S)
    threads.share(lambda: None, 3)
    assert calls == [threading.get_ident()]


def test_a_helper_that_has_done_its_part_may_return_later(threads: Threads) -> None:
    caller, begun, release = threading.get_ident(), threading.Event(), threading.Event()
    ended = threading.Event()

    def work() -> None:
        if threading.get_ident() == caller:
            assert begun.wait(WAIT_S)
        else:
            begun.set()
            assert release.wait(WAIT_S)
            ended.set()

    threads.share(work, 2, begun.is_set)
    assert not ended.is_set()
    release.set()
    assert ended.wait(WAIT_S)


def test_an_error_of_a_helper_reaches_the_caller(threads: Threads) -> None:
    caller, failed = threading.get_ident(), threading.Event()

    def work() -> None:
        if threading.get_ident() == caller:
            assert failed.wait(WAIT_S)
        else:
            failed.set()
            raise KeyError("helper")

    with pytest.raises(KeyError, match="helper"):
        threads.share(work, 2)


def test_an_error_of_the_caller_waits_for_the_helpers_too(threads: Threads) -> None:
    caller, begun, ended = threading.get_ident(), threading.Event(), []

    def work() -> None:
        if threading.get_ident() == caller:
            assert begun.wait(WAIT_S)
            raise ValueError("caller")
        begun.set()
        threading.Event().wait(0.05)
        ended.append(True)

    with pytest.raises(ValueError, match="caller"):
        threads.share(work, 2)
    assert ended == [True]


@pytest.mark.parametrize(
    "weights", [[], [0, 0], [5], [1] * 100, [100, 1, 1, 1], [1, 1, 1, 100], [3, 0, 0, 9, 2]]
)
@pytest.mark.parametrize("at_most", [1, 10, 1000])
def test_runs_cover_all_items_once_and_in_order(weights: list[int], at_most: int) -> None:
    runs = split(np.array(weights, np.int64), at_most)
    items = [i for first, last in runs for i in range(first, last)]
    assert items == (list(range(len(weights))) if sum(weights) else [])
    assert len(runs) <= max(1, -(-sum(weights) // at_most))


@pytest.mark.parametrize(
    ("worth", "n_threads"),
    [(81, 1), (80, 2), (40, 3), (1, 4)],
    ids=["none", "one", "two", "as many as blocks"],
)
def test_a_search_takes_as_many_threads_as_its_cells_and_genes_are_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: int, n_threads: int
) -> None:
    path = build(tmp_path, [study(name, 10) for name in "ABCD"])
    asked: list[int] = []
    monkeypatch.setattr(scoring, "WORTH_A_THREAD", worth)
    with Atlas.open(path, threads=8) as atlas:
        share = atlas._threads.share
        monkeypatch.setattr(
            atlas._threads, "share", lambda work, n, *done: (asked.append(n), share(work, n, *done))
        )
        atlas.search(["G1", "G2"])  # 80 cells times genes, a block a study
    assert asked[0] == n_threads
