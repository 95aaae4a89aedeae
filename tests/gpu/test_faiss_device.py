"""Projected indexes on a device: the contract of `Projected`, whatever the device lacks.

Here by FAISS on the processor with a GPU's limits; with ``--device cuda`` by the GPU.
"""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from insignia_index.dense import device as module
from insignia_index.dense.codec import Codec
from insignia_index.dense.device import MOST, Backend, DeviceIndex, device_bytes, gpu_backend
from insignia_index.dense.index import flat_index, train_lists
from insignia_index.dense.resident import Part, Projected

D = 8
SIZES = [3000, 40, 2500]
N = sum(SIZES)


class Twin:
    """FAISS on the processor, with what a GPU has not: no more than 2,048 neighbours and lists."""

    name = "twin"

    def __init__(self, fails_at: str = "") -> None:
        self.threads: set[int] = set()
        self.batches: list[int] = []
        self.fails_at = fails_at
        self.begun, self.hold = threading.Event(), threading.Event()
        self.hold.set()
        self.closed = 0

    def free_bytes(self) -> int:
        if self.fails_at == "free":
            raise AttributeError("this build of FAISS has no cudaMalloc")
        return 1 << 40

    def put(self, index: Any) -> Any:
        self.threads.add(threading.get_ident())
        if self.fails_at == "put" and len(self.batches) == 0 and index.ntotal:
            raise RuntimeError("Failed to cudaMalloc")
        return index

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1

    def search(
        self, resident: Any, queries: np.ndarray, k: int, n_probe: int
    ) -> tuple[np.ndarray, np.ndarray]:
        self.begun.set()
        self.hold.wait(10)
        self.threads.add(threading.get_ident())
        self.batches.append(len(queries))
        assert 0 < k <= MOST
        assert n_probe <= MOST
        if self.fails_at == "search":
            raise RuntimeError("Failed to cudaMalloc")
        if n_probe:
            resident.nprobe = n_probe
        found: tuple[np.ndarray, np.ndarray] = resident.search(queries, k)
        return found


@pytest.fixture(params=[0, 8])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Projected:
    """An index of three studies with and without lists."""
    rng = np.random.default_rng(1)
    q, _ = np.linalg.qr(rng.standard_normal((60, D)))
    values = rng.standard_normal((N, D)).astype(np.float32)
    template = None
    if request.param:
        template = tmp_path / "lists.index"
        faiss.write_index(train_lists(values, request.param), str(template))
    parts, first = [], 0
    for i, n in enumerate(SIZES):
        index = faiss.read_index(str(template)) if template and i == 0 else flat_index(D)
        index.add(values[first : first + n])
        faiss.write_index(index, str(tmp_path / f"{i}.index"))
        parts.append(Part(tmp_path / f"{i}.index", first, n))
        first += n
    return Projected(Codec.of(q.astype(np.float32), 1.0), template, parts)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """The GPU, if one is asked for, which must then be there; else its twin."""
    wanted = request.config.getoption("--device")
    if wanted == "emulated":
        return Twin()
    found = gpu_backend(0)
    assert found is not None, "no CUDA device that this FAISS can use (pip install faiss-gpu-cuvs)"
    return found


def queries(n: int) -> np.ndarray:
    """Random ones."""
    return np.random.default_rng(7).standard_normal((n, D)).astype(np.float32)


def test_the_parts_hold_every_cell_once(host: Projected) -> None:
    parts = list(host.parts(10))
    assert sum(part.ntotal for part in parts) == N
    assert max(part.ntotal for part in parts) - min(part.ntotal for part in parts) <= len(SIZES)


@pytest.mark.parametrize("share", [None, 0.9, 0.5, 0.05, 0.0])
@pytest.mark.parametrize("n", [0, 1, 20, 600, 3000, 100_000])
def test_filters_are_honoured_and_the_best_are_found(
    host: Projected, backend: Backend, share: float | None, n: int
) -> None:
    index = DeviceIndex(host, backend)
    passing = None if share is None else np.random.default_rng(3).random(N) < share
    n_passing = N if passing is None else int(passing.sum())
    for query in queries(4):
        rows, scores = index.candidates(query, n, passing, n_passing)
        there, _ = host.candidates(query, n, passing, n_passing)
        assert passing is None or passing[rows].all()
        assert len(np.unique(rows)) == len(rows) == len(scores)
        # of the best that the processor finds nearly all: a part can hold more than twice its share of them
        best = there[: min(n, len(there))]
        if len(best):
            assert len(rows) >= 0.7 * min(n, len(best))
            assert np.isin(rows, best).sum() >= 0.6 * min(len(rows), len(best))
    index.close()


def test_all_cells_of_one_thread_and_batches_equal_single_answers(host: Projected) -> None:
    twin = Twin()
    index = DeviceIndex(host, twin)
    asked = queries(40)
    single = [index.candidates(query, 50) for query in asked]
    assert max(twin.batches) == 1
    twin.hold.clear()
    twin.begun.clear()
    with ThreadPoolExecutor(41) as pool:
        # while the device is busy with one, the others wait for it
        first = pool.submit(index.candidates, asked[0], 50)
        assert twin.begun.wait(10)
        # different numbers of neighbours in one call
        futures = [pool.submit(index.candidates, query, 50 if i % 2 else 30) for i, query in enumerate(asked)]
        until = time.monotonic() + 5
        while len(index._waiting) < len(asked) and time.monotonic() < until:
            time.sleep(0.01)
        twin.hold.set()
        first.result()
        found = [future.result() for future in futures]
    assert max(twin.batches) >= 30
    assert len(twin.threads) == 1
    for i, ((rows, scores), (expected, their)) in enumerate(zip(found, single, strict=True)):
        if i % 2:
            assert dict(zip(rows.tolist(), scores.tolist(), strict=True)) == pytest.approx(
                dict(zip(expected.tolist(), their.tolist(), strict=True))
            )
        else:
            assert len(rows) == 30
            assert set(rows.tolist()) <= set(expected.tolist())
    index.close()


@pytest.mark.parametrize("fails_at", ["free", "put", "search"])
def test_without_memory_the_processor_answers_and_it_is_said_once(
    host: Projected, caplog: pytest.LogCaptureFixture, fails_at: str
) -> None:
    twin = Twin(fails_at)
    with caplog.at_level(logging.WARNING):
        index = DeviceIndex(host, twin)
        for query in queries(3):
            rows, _ = index.candidates(query, 20)
            assert sorted(rows.tolist()) == sorted(host.candidates(query, 20)[0].tolist())
    assert index.n_cells_on_device == 0
    assert len(caplog.records) == 1
    assert "cudaMalloc" in caplog.text
    # what is left of its memory is for others
    assert (index._resident, twin.closed, len(twin.threads)) == ([], 1, 1)
    index.close()


def test_questions_that_wait_while_one_fails_are_answered_by_the_processor(
    host: Projected, caplog: pytest.LogCaptureFixture
) -> None:
    twin = Twin("search")
    twin.hold.clear()
    index = DeviceIndex(host, twin)
    asked = queries(5)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(index.candidates, asked[0], 20)
        assert twin.begun.wait(10)
        later = [pool.submit(index.candidates, query, 20) for query in asked[1:]]
        while len(index._waiting) < 4:
            time.sleep(0.001)
        twin.hold.set()
        found = [answer.result(10)[0] for answer in (first, *later)]
    for query, rows in zip(asked, found, strict=True):
        assert sorted(rows.tolist()) == sorted(host.candidates(query, 20)[0].tolist())
    assert twin.closed == 1
    assert [record.message for record in caplog.records] == ["FAISS leaves twin: Failed to cudaMalloc"]
    index.close()


def test_a_budget_decides_what_is_resident(host: Projected, caplog: pytest.LogCaptureFixture) -> None:
    enough = device_bytes(N, D)
    fits, not_fits = DeviceIndex(host, Twin(), enough), DeviceIndex(host, Twin(), enough - 1)
    assert (fits.n_cells_on_device, not_fits.n_cells_on_device) == (N, 0)
    assert "stays on the processor" in caplog.text
    query = queries(1)[0]
    assert len(not_fits.candidates(query, 20)[0]) >= 15


def test_a_faiss_without_gpus_leaves_everything_on_the_processor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module.faiss_module(), "get_num_gpus", lambda: 0, raising=False)
    assert gpu_backend(0) is None
    assert "sees no device cuda:0" in caplog.text
