"""A server over an engine that answers what the test says, in a thread with its own event loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from insignia_model import (
    AtlasInfo,
    Column,
    FieldInfo,
    GeneReport,
    ScoreChunk,
    ScoreStream,
    SearchResult,
    StudyInfo,
    Table,
)
from insignia_model.errors import CellNotFound
from insignia_proto.v1.insignia_pb2_grpc import AtlasServiceStub
from insignia_server.app import Server
from insignia_server.config import ServerConfig

INFO = AtlasInfo(1, 7, 2, 5, 400, 28_231, 123_456, 5_000_000, "float16", False, ("sparse",))
STUDIES = [
    StudyInfo("kang2018", 300, 3, 20_000, 100_000, 4_000_000, 3, "kang.h5ad", False),
    StudyInfo("zhao2021", 100, 2, 18_000, 23_456, 1_000_000, 7, "zhao.npz", False),
]
FIELDS = [
    FieldInfo("tissue", "category", 2, 390, 2, (("blood", 300), ("lung", 90))),
    FieldInfo("age", "number", 1, 100, minimum=20.0, maximum=80.0),
]
CELLS = Table(
    {
        "study": Column("category", np.array([0, 0, 1], np.int32), ("kang2018", "zhao2021")),
        "cell_id": Column.text(["AAA", "AAC", "AAG"]),
        "score": Column.numbers(np.array([3.5, 2.25, 0.1], np.float32)),
        "tissue": Column.text(["blood", None, "lung"]),
        "age": Column.numbers([40.0, np.nan, 61.5]),
        "n_umi": Column("integer", np.array([5, 0, -9]), missing=np.array([False, True, False])),
        "doublet": Column("bool", np.array([True, False, False]), missing=np.array([False, False, True])),
    }
)
GROUPS = Table({"study": Column.text(["kang2018", "zhao2021"]), "n_cells": Column.integers([300, 100])})
SAMPLES = Table({"sample": Column.text(["s1", "s2", "s3"]), "mean": Column.numbers([1.0, 2.0, 3.0])})
GENES = GeneReport({"IFIT1": "IFIT1", "G1P2": "ISG15"}, ("NOSUCH",))
RESULT = SearchResult(
    "sparse", "mean", "percentile:95", 400, 20, 1.75, 2.5, GENES, ("study",), CELLS, GROUPS, SAMPLES
)


class FakeEngine:
    """Answers with ``result``, raises ``error``, or works until it is told to end, as each test wants."""

    def __init__(self):
        self.result = RESULT
        self.error = None
        self.chunks = []
        self.asked = []
        self.given_threads = []
        self.hold = False  # work until `release` or until cancelled
        self.running = threading.Semaphore(0)  # released by each work that begins
        self.release = threading.Event()
        self.stopped = threading.Semaphore(0)  # released by each work that was cancelled
        self.pulled = 0
        self.closed_streams = threading.Semaphore(0)
        self.refreshed = threading.Event()

    def _work(self, cancel):
        if self.error:
            raise self.error
        self.running.release()
        try:
            while self.hold and not self.release.is_set():
                cancel.check()
                time.sleep(0.001)
        except BaseException:
            self.stopped.release()
            raise

    def run(self, request, *, cancel=None, threads=None, max_groups=None):
        self.asked.append(request)
        self.given_threads.append(threads)
        self._work(cancel)
        return self.result

    def iter_scores(self, signature, **options):
        self.asked.append((signature, options))
        return ScoreStream(self._chunks(options["cancel"]), GENES)

    def _chunks(self, cancel):
        try:
            for chunk in self.chunks:
                self._work(cancel)
                self.pulled += 1
                yield chunk
        finally:
            self.closed_streams.release()

    def genes(self, names, *, strict=False):
        self.asked.append((tuple(names), strict))
        return GENES

    def studies(self):
        return STUDIES

    def fields(self, max_values=20):
        self.asked.append(max_values)
        return FIELDS

    def cells(self, ids):
        for study, cell_id in ids:
            if cell_id not in ("AAA", "AAC"):
                raise CellNotFound(study, cell_id)
        return Table({name: CELLS[name] for name in ("study", "cell_id", "tissue")})

    def info(self):
        return INFO

    def refresh(self):
        self.refreshed.set()
        return False


class Running:
    """A server that runs, a channel to it and its stub."""

    def __init__(self, engine, **settings):
        self.engine = engine
        self.server = Server(engine, ServerConfig(**{"listen": "127.0.0.1:0", "grace_s": 0.0} | settings))
        self._stopped = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        try:
            self.do(self.server.start())
        except BaseException:
            self._end()
            raise
        self.channel = grpc.insecure_channel(self.address)
        self.stub = AtlasServiceStub(self.channel)

    @property
    def address(self):
        return self.server.address

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def close(self):
        self.channel.close()
        self.stop()
        self._end()

    def stop(self, grace_s=None):
        if not self._stopped:
            self._stopped = True
            self.do(self.server.stop(grace_s))

    def stop_soon(self, grace_s):
        self._stopped = True
        return asyncio.run_coroutine_threadsafe(self.server.stop(grace_s), self._loop)

    def _end(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def serve(engine) -> Iterator[Callable[..., Running]]:
    """Start servers of ``engine``, with any settings."""
    running = []

    def start(**settings):
        running.append(Running(engine, **settings))
        return running[-1]

    yield start
    engine.release.set()
    for server in running:
        server.close()


@pytest.fixture
def served(serve) -> Running:
    return serve()


@pytest.fixture
def stub(served) -> AtlasServiceStub:
    return served.stub


@pytest.fixture
def refused():
    """What a refused call says: status code, ErrorInfo, message."""

    def of(call):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        trailers = dict(caught.value.trailing_metadata())
        info = ErrorInfo()
        status = Status.FromString(trailers["grpc-status-details-bin"])
        assert status.code == caught.value.code().value[0]
        assert status.message == caught.value.details()
        assert status.details[0].Unpack(info)
        return caught.value.code(), info, status.message

    return of


@pytest.fixture
def chunk() -> Callable[..., ScoreChunk]:
    """Make chunks of scores 0, 1, 2, ..."""

    def make(n, study="kang2018", rows=None, dtype=np.float32, names=False):
        rows = np.arange(n) if rows is None else np.asarray(rows)
        cell_ids = tuple(f"CELL{row}" for row in rows) if names else ()
        return ScoreChunk(study, rows.astype(np.int64), np.arange(n, dtype=dtype), cell_ids)

    return make
