"""Many threads, one device: batches, callers that go away, memory that runs out, an end in order."""

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from insignia_index import Atlas, CancelToken, SearchRequest
from insignia_index.gpu import batch, engine, owner
from insignia_index.gpu.device import DeviceMemoryFull
from insignia_model.errors import SearchCancelled

from ..index.made import build, study
from .conftest import MakeDevice, OpenAtlas
from .equal import facts

GENES = [f"G{i}" for i in range(12)]
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    density = [0.01, 0.03, 0.2, 0.5, 0.97, 1.0] * 2
    made = [study(name, 500, GENES, density=density, batch=[i % 5 for i in range(500)]) for name in "ab"]
    return build(tmp_path_factory.mktemp("owner"), made)


def requests(n: int) -> list[SearchRequest]:
    """Questions that differ in genes, filter, rule, k and groups."""
    rules = ["percentile:95", "top:30", "value:0.5", "zscore:1.5", "quantile:0.3"]
    return [
        SearchRequest.of(
            GENES[i % 5 : 6 + i % 7],
            k=(0, 1, 10, 700)[i % 4],
            hits=rules[i % 5],
            where=[None, {"batch": [0, 3]}, {"study": "b"}][i % 3],
            group_by=[("study",), (), ("batch", "study")][i % 3],
        )
        for i in range(n)
    ]


def test_an_answer_that_comes_as_the_wait_ends_is_an_answer() -> None:
    class Late(Future[int]):
        """Done only when somebody gave up waiting."""

        def result(self, timeout: float | None = None) -> int:
            if not self.done():
                self.set_result(7)
                raise engine.NotYet
            return super().result(timeout)

    assert engine._wait(SimpleNamespace(future=Late(), cancel=CancelToken())) == 7


class Holding:
    """Keeps the device's thread busy until `let_go`."""

    def __init__(self, atlas: Atlas) -> None:
        self._go, holds = threading.Event(), threading.Event()
        device = atlas._session.device
        assert device is not None

        def hold(_: object) -> None:
            holds.set()
            self._go.wait(TIMEOUT_S)

        self._thread = threading.Thread(target=device._owner.call, args=(hold,))
        self._thread.start()
        assert holds.wait(TIMEOUT_S)
        self.waiting = device._owner._waiting

    def wait_for(self, n: int) -> None:
        """Until so many questions wait."""
        end = time.monotonic() + TIMEOUT_S
        while self.waiting.qsize() < n:
            assert time.monotonic() < end
            time.sleep(0.001)

    def let_go(self) -> None:
        self._go.set()
        self._thread.join()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were run."""
    sizes: list[int] = []
    run = batch.Batch.run

    def noted(self: batch.Batch) -> object:
        sizes.append(len(self._asks))
        return run(self)

    monkeypatch.setattr(batch.Batch, "run", noted)
    return sizes


@pytest.mark.parametrize("limit", [32, 5])
def test_what_waits_is_answered_together_and_all_answers_are_right(
    path: Path, open_on_device: OpenAtlas, batches: list[int], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(owner, "MAX_BATCH", limit)
    asked = requests(23)
    with open_on_device(path) as atlas, Atlas.open(path) as processor, ThreadPoolExecutor(23) as pool:
        wanted = [facts(processor.run(request)) for request in asked]
        holding = Holding(atlas)
        answers = [pool.submit(atlas.run, request) for request in asked]
        holding.wait_for(23)
        holding.let_go()
        assert [facts(answer.result(TIMEOUT_S)) for answer in answers] == wanted
    assert batches == ([23] if limit == 32 else [5, 5, 5, 5, 3])


def test_who_goes_away_is_not_computed_for(path: Path, open_on_device: OpenAtlas, batches: list[int]) -> None:
    with open_on_device(path) as atlas, ThreadPoolExecutor(3) as pool:
        holding = Holding(atlas)
        tokens = [CancelToken(), CancelToken(), CancelToken(time.monotonic() + 0.1)]
        answers = [pool.submit(atlas.run, requests(1)[0], cancel=token) for token in tokens]
        holding.wait_for(3)
        tokens[0].cancel()
        for gone in (answers[0], answers[2]):
            with pytest.raises(SearchCancelled):
                gone.result(TIMEOUT_S)
        holding.let_go()
        assert answers[1].result(TIMEOUT_S).n_cells == 1000
    assert batches == [1]


def test_a_batch_that_does_not_fit_is_divided_and_a_search_that_does_not_goes_to_the_processor(
    path: Path, open_on_device: OpenAtlas, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = batch.Room.allocate
    largest = {"n": 2}

    def limited(self: batch.Room, device: object) -> None:
        if len(self.sizes("queries")) > largest["n"]:
            raise DeviceMemoryFull("for the test")
        allocate(self, device)  # type: ignore[arg-type]

    monkeypatch.setattr(batch.Room, "allocate", limited)
    asked = requests(7)
    with open_on_device(path) as atlas, Atlas.open(path) as processor, ThreadPoolExecutor(7) as pool:
        wanted = [facts(processor.run(request)) for request in asked]
        holding = Holding(atlas)
        answers = [pool.submit(atlas.run, request) for request in asked]
        holding.wait_for(7)
        holding.let_go()
        assert [facts(answer.result(TIMEOUT_S)) for answer in answers] == wanted
        assert batches == [1, 2, 2, 2]
        largest["n"] = 0
        assert [facts(atlas.run(request)) for request in asked] == wanted
        assert len(batches) == 4


def test_an_error_on_the_device_reaches_who_asked_and_nobody_else(
    path: Path, open_on_device: OpenAtlas, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_on_device(path) as atlas:
        with monkeypatch.context() as patch:
            patch.setattr(batch.Batch, "run", lambda self: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                atlas.search(GENES)
        assert atlas.search(GENES).n_cells == 1000


def test_a_device_that_cannot_be_made_is_an_error_of_who_opens_the_atlas(path: Path) -> None:
    def make() -> object:
        raise RuntimeError("broken")

    from insignia_index.gpu.engine import DeviceEngine

    with pytest.raises(RuntimeError, match="broken"):
        DeviceEngine(make, None)  # type: ignore[arg-type]


def test_the_thread_ends_with_the_atlas_or_with_whoever_forgets_it(
    path: Path, open_on_device: OpenAtlas
) -> None:
    def n_threads() -> int:
        return sum(thread.name == "insignia-gpu" for thread in threading.enumerate())

    before = n_threads()
    with open_on_device(path) as atlas:
        assert n_threads() == before + 1
        device = atlas._session.device
    assert n_threads() == before
    assert device is not None
    with pytest.raises(ValueError, match="is closed"):
        device._owner.call(lambda _: None)
    forgotten = open_on_device(path)
    forgotten.search(GENES)
    assert n_threads() == before + 1
    del forgotten, device
    gc.collect()
    assert n_threads() == before


def test_memory_of_searches_is_given_back(
    path: Path, make_device: MakeDevice, open_on_device: OpenAtlas
) -> None:
    if make_device().name != "emulated":
        pytest.skip("a pool keeps what was given back")
    with open_on_device(path) as atlas:
        device = atlas._session.device
        assert device is not None
        atlas.search(GENES)
        used = device._owner.call(lambda there: there.free_bytes())
        for request in [SearchRequest.of(GENES, k=k) for k in range(20)]:
            atlas.run(request)
        assert device._owner.call(lambda there: there.free_bytes()) == used


def test_an_atlas_that_is_never_closed_does_not_keep_the_interpreter(path: Path) -> None:
    script = """

from insignia_index.gpu.engine import DeviceEngine
class Device:
    name = "none"
    def close(self): print("closed")
engine = DeviceEngine(Device, None)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
