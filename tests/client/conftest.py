"""A made-up atlas, the same atlas behind a gRPC server, and the server's half of the wire format."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
import hypothesis
import numpy as np
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from insignia_model import (
    AtlasInfo,
    CellId,
    Column,
    FieldInfo,
    GeneReport,
    ScoreChunk,
    ScoreStream,
    SearchRequest,
    SearchResult,
    StudyInfo,
    Table,
)
from insignia_model.errors import CellNotFound, InsigniaError, NoGeneResolved
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_proto.v1 import insignia_pb2_grpc as rpc

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

VOCABULARY = {"CD14": "CD14", "LYZ": "LYZ", "INS": "INS", "Q06828": "FMOD"}


class FakeAtlas:
    """What the embedded atlas offers, with answers that depend on the question in a simple way."""

    n_cells_in_table = 100
    closed = False

    def run(self, request: SearchRequest) -> SearchResult:
        genes = self.resolve_genes(request.signature.genes)
        if not genes.resolved:
            raise NoGeneResolved(genes.problems())
        n = min(request.k, self.n_cells_in_table)
        return SearchResult(
            engine="sparse",
            aggregate=request.aggregate,
            hits=str(request.hits),
            n_cells=1_000,
            n_hits=50,
            cutoff=0.1 + 0.2,
            elapsed_ms=time.perf_counter(),
            genes=genes,
            group_by=request.group_by,
            cell_table=cell_table(n),
            group_table=group_table(request),
            sample_table=sample_table(request),
            signature=request.signature.name,
            min_cells=request.min_cells,
        )

    def iter_scores(self, signature: Any, *, cell_ids: bool = False, **_: Any) -> ScoreStream:
        return ScoreStream(self._chunks(cell_ids), self.resolve_genes(signature.genes if signature else ()))

    def _chunks(self, cell_ids: bool) -> Generator[ScoreChunk, None, None]:
        names = ("a", "b", "c") if cell_ids else ()
        yield ScoreChunk("kang", np.array([0, 1, 2]), np.array([0.1, 0.2, 0.3], np.float32), names)
        yield ScoreChunk("baron", np.array([4, 7, 9]), np.array([0.1, 0.2, 0.3]), names)

    def studies(self) -> list[StudyInfo]:
        return [
            StudyInfo("kang", 24_673, 16, 15_000, 2_000_000, 8_000_000, 1, "kang.h5ad", False),
            StudyInfo("baron", 8_569, 4, 18_000, 1_000_000, 4_000_000, 2, "baron.h5ad", True),
        ]

    def fields(self, max_values: int = 20) -> list[FieldInfo]:
        values = (("blood", 900), ("lung", 100))[:max_values]
        return [
            FieldInfo("tissue", "category", 2, 1_000, 2, values),
            FieldInfo("age", "number", 1, 500, minimum=18.5, maximum=80.0),
        ]

    def resolve_genes(self, names: Any, *, strict: bool = False) -> GeneReport:
        resolved = {name: VOCABULARY[name] for name in names if name in VOCABULARY}
        return GeneReport(resolved, tuple(name for name in names if name not in VOCABULARY))

    def cells(self, ids: Any) -> Table:
        for study, cell_id in ids:
            if study not in ("kang", "baron"):
                raise CellNotFound(study, cell_id)
        return Table(
            {
                "study": Column.text([study for study, _ in ids]),
                "cell_id": Column.text([cell_id for _, cell_id in ids]),
                "tissue": Column.text([None if n % 2 else "blood" for n in range(len(ids))]),
            }
        )

    def info(self) -> AtlasInfo:
        return AtlasInfo(1, 2, 2, 20, 33_242, 20_000, 3_000_000, 12_000_000, "float16", False, ("sparse",))

    def __enter__(self) -> FakeAtlas:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True


def cell_table(n: int) -> Table:
    rows = np.arange(n)
    return Table(
        {
            "study": Column.text([("kang", "baron")[r % 2] for r in rows]),
            "cell_id": Column.text([f"cell-{r}" for r in rows]),
            "score": Column.numbers((1 / (1 + rows)).astype(np.float32)),
            "batch": Column.text([f"batch {r % 7}" for r in rows]),
            "cell_type": Column.text([None if r % 5 == 4 else "T cell, CD4-positive" for r in rows]),
            "age": Column.numbers(np.where(rows % 3 == 0, np.nan, rows / 10)),
            "n_counts": Column("integer", rows.astype(np.int64), missing=rows % 4 == 1),
            "doublet": Column("bool", rows % 2 == 0, missing=rows % 4 == 2),
        }
    )


def group_table(request: SearchRequest) -> Table:
    n = 3
    numbers = np.linspace(0.5, 0.1, n)
    quantiles = {"median": Column.numbers(numbers), "p90": Column.numbers(numbers)}
    return Table(
        {name: Column.text([f"{name} {r}" for r in range(n)]) for name in request.group_by}
        | {
            "n_cells": Column.integers([1000 * (r + 1) for r in range(n)]),
            "n_hits": Column.integers([100 * (r + 1) for r in range(n)]),
            "hit_fraction": Column.numbers(numbers),
            "mean": Column.numbers(numbers),
            "sd": Column.numbers(numbers),
            "max": Column.numbers(numbers),
        }
        | (quantiles if request.quantiles else {})
        | {
            "n_samples": Column.integers([4] * n),
            "sample_hit_fraction_mean": Column.numbers(numbers),
            "sample_hit_fraction_median": Column.numbers(np.array([np.nan, 0.2, 0.3])),
            "n_genes_measured": Column.integers([2] * n),
        }
    )


def sample_table(request: SearchRequest) -> Table:
    n = 12
    fraction = np.linspace(0, 1, n)
    return Table(
        {name: Column.text([f"{name} {r % 3}" for r in range(n)]) for name in request.group_by}
        | {
            "study": Column.text([f"study {r % 3}" for r in range(n)]),
            "sample": Column.text([f"sample {r}" for r in range(n)]),
            "n_cells": Column.integers([5 + r for r in range(n)]),
            "n_hits": Column.integers(range(n)),
            "hit_fraction": Column.numbers(fraction),
            "mean": Column.numbers(fraction),
        }
    )


# --- the server's half of the wire format -------------------------------------------------------------


def encode_table(table: Table) -> pb.Table:
    return pb.Table(columns=[encode_column(name, column) for name, column in table.columns.items()])


def encode_column(name: str, column: Column) -> pb.Column:
    missing = [] if column.missing is None else column.missing.tolist()
    values = column.values.tolist()
    if column.kind == "category":
        codes = pb.CategoryValues(dictionary=column.dictionary, codes=[v + 1 for v in values])
        return pb.Column(name=name, categories=codes)
    if column.kind == "integer":
        return pb.Column(name=name, integers=pb.IntegerValues(values=values, missing=missing))
    if column.kind == "bool":
        return pb.Column(name=name, bools=pb.BoolValues(values=values, missing=missing))
    if column.values.dtype == np.float32:
        return pb.Column(name=name, floats=pb.FloatValues(values=values))
    return pb.Column(name=name, doubles=pb.DoubleValues(values=values))


def encode_genes(report: GeneReport) -> pb.GeneReport:
    return pb.GeneReport(asked=report.resolved, used=report.resolved.values(), missing=report.missing)


def encode_result(result: SearchResult) -> pb.SearchResponse:
    return pb.SearchResponse(
        engine=result.engine,
        aggregate=pb.AGGREGATE_SUM if result.aggregate == "sum" else pb.AGGREGATE_MEAN,
        hits=result.hits,
        n_cells=result.n_cells,
        n_hits=result.n_hits,
        cutoff=result.cutoff,
        elapsed_ms=result.elapsed_ms,
        genes=encode_genes(result.genes),
        group_by=result.group_by,
        cells=encode_table(result.cell_table),
        groups=encode_table(result.group_table),
        samples=encode_table(result.sample_table),
    )


def encode_chunk(chunk: ScoreChunk) -> pb.ScoresResponse:
    message = pb.ScoresResponse(study=chunk.study, cell_ids=chunk.cell_ids)
    if (np.diff(chunk.rows) == 1).all():
        message.first_row = int(chunk.rows[0]) if len(chunk.rows) else 0
    else:
        message.rows.extend(chunk.rows.tolist())
    values = message.floats if chunk.scores.dtype == np.float32 else message.doubles
    values.SetInParent()
    values.values.extend(chunk.scores.tolist())
    return message


@dataclass
class Encode:
    table: Callable[[Table], pb.Table] = encode_table
    result: Callable[[SearchResult], pb.SearchResponse] = encode_result
    chunk: Callable[[ScoreChunk], pb.ScoresResponse] = encode_chunk
    genes: Callable[[GeneReport], pb.GeneReport] = encode_genes


@pytest.fixture(scope="session")
def encode() -> Encode:
    return Encode()


# --- a server ------------------------------------------------------------------------------------------


@dataclass
class FakeService(rpc.AtlasServiceServicer):
    """Answers as `FakeAtlas` does; ``failures`` are raised first, one per request."""

    atlas: FakeAtlas = field(default_factory=FakeAtlas)
    failures: list[Any] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)
    scores_forever: bool = False
    stuck: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    stream_ended: threading.Event = field(default_factory=threading.Event)

    def _begin(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if not self.failures:
            return
        failure = self.failures.pop(0)
        if failure == "stuck":
            self.stuck.set()
            self.released.wait(5)
        elif isinstance(failure, InsigniaError):
            abort_with(context, failure)
        elif callable(failure):
            failure(context)
        else:
            context.abort(*failure)

    def Search(self, request: pb.SearchRequest, context: grpc.ServicerContext) -> pb.SearchResponse:
        self._begin(request, context)
        weights = dict(zip(request.signature.genes, request.signature.weights, strict=False))
        genes = weights or list(request.signature.genes)
        asked = SearchRequest.of(
            genes,
            k=request.k,
            group_by=request.group_by,
            aggregate="sum" if request.aggregate == pb.AGGREGATE_SUM else "mean",
            quantiles=request.quantiles,
            min_cells=request.min_cells,
        )
        try:
            return encode_result(self.atlas.run(asked))
        except InsigniaError as error:
            abort_with(context, error)
            raise

    def Scores(self, request: pb.ScoresRequest, context: grpc.ServicerContext) -> Iterator[pb.ScoresResponse]:
        self._begin(request, context)
        context.add_callback(self.stream_ended.set)
        genes = encode_genes(self.atlas.resolve_genes(request.signature.genes))
        yield pb.ScoresResponse(genes=genes, floats=pb.FloatValues())
        while True:
            for chunk in self.atlas.iter_scores(None, cell_ids=request.cell_ids):
                yield encode_chunk(chunk)
            if not self.scores_forever or self.stream_ended.is_set():
                return

    def GetAtlas(self, request: Any, context: grpc.ServicerContext) -> pb.GetAtlasResponse:
        self._begin(request, context)
        return pb.GetAtlasResponse(**asdict(self.atlas.info()))

    def ListStudies(self, request: Any, context: grpc.ServicerContext) -> pb.ListStudiesResponse:
        self._begin(request, context)
        return pb.ListStudiesResponse(studies=[pb.Study(**asdict(s)) for s in self.atlas.studies()])

    def ListFields(self, request: pb.ListFieldsRequest, context: grpc.ServicerContext) -> Any:
        self._begin(request, context)
        found = []
        for info in self.atlas.fields(request.max_values):
            values = [pb.FieldValue(value=value, n_cells=n) for value, n in info.values]
            found.append(pb.Field(**asdict(info) | {"values": values}))
        return pb.ListFieldsResponse(fields=found)

    def ResolveGenes(self, request: pb.ResolveGenesRequest, context: grpc.ServicerContext) -> Any:
        self._begin(request, context)
        return pb.ResolveGenesResponse(genes=encode_genes(self.atlas.resolve_genes(request.genes)))

    def GetCells(self, request: pb.GetCellsRequest, context: grpc.ServicerContext) -> pb.GetCellsResponse:
        self._begin(request, context)
        ids = [CellId(c.study, c.cell_id) for c in request.cells]
        try:
            return pb.GetCellsResponse(cells=encode_table(self.atlas.cells(ids)))
        except InsigniaError as error:
            abort_with(context, error)
            raise


def abort_with(context: grpc.ServicerContext, error: InsigniaError) -> None:
    detail = AnyMessage()
    detail.Pack(ErrorInfo(domain="insignia", reason=error.reason, metadata=error.data))
    code = grpc.StatusCode.INVALID_ARGUMENT
    status = Status(code=code.value[0], message=error.message, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, error.message)


@dataclass
class FakeServer:
    target: str
    service: FakeService


@contextmanager
def serving(target: str = "127.0.0.1:0") -> Iterator[FakeServer]:
    service = FakeService()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    rpc.add_AtlasServiceServicer_to_server(service, server)
    port = server.add_insecure_port(target)
    server.start()
    try:
        yield FakeServer(f"127.0.0.1:{port}", service)
    finally:
        service.released.set()
        server.stop(0).wait(5)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as running:
        yield running


@pytest.fixture
def new_server() -> Callable[..., AbstractContextManager[FakeServer]]:
    return serving


@pytest.fixture
def fake_atlas() -> FakeAtlas:
    return FakeAtlas()
