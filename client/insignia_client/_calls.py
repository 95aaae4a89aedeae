"""The calls of the service, once: what is sent and how the answer is read. The clients only send and wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from insignia_client import _convert
from insignia_client._errors import typed
from insignia_client._tables import Malformed, table
from insignia_client.errors import IncompatibleServer, is_address
from insignia_model import (
    AtlasInfo,
    CellId,
    FieldInfo,
    GeneReport,
    ScoreChunk,
    Scores,
    ScoreStream,
    ScreenChunk,
    ScreenPlan,
    ScreenRequest,
    ScreenStream,
    SearchRequest,
    SearchResult,
    Signature,
    SkippedSignature,
    StudyInfo,
    Table,
)
from insignia_model.condition import WhereLike
from insignia_model.errors import InsigniaError, InvalidArgument
from insignia_model.signature import SignatureLike
from insignia_proto.v1 import insignia_pb2 as pb

T = TypeVar("T")

SERVICE = "insignia.v1.AtlasService"
DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT_S = 30.0
DEFAULT_RETRIES = 3
# 100,000 cells with 20 metadata fields are 15 MB; gRPC's own default is 4 MiB
DEFAULT_MESSAGE_BYTES = 256 * 2**20
SIGNATURES_PER_MESSAGE = 64
_FOREVER_S = 1e8  # gRPC counts nanoseconds
MAX_RETRIES = 4  # gRPC makes 5 attempts at most


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A method of the service, its request, and how one message of its answer is read."""

    method: str
    request: Message | Sending[Any]
    decode: Callable[[Any], T]

    @property
    def own_error(self) -> BaseException | None:
        """What stopped the messages that were to be sent."""
        return self.request.error if isinstance(self.request, Sending) else None


class Sending(Generic[T]):
    """Iterator of the messages of a stream that is sent; gRPC hides what it raises, and it is kept."""

    def __init__(self, messages: Iterator[T]) -> None:
        self._messages = messages
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            # gRPC ends the call for an `Exception` alone; for another, nobody would ever be told
            raise RuntimeError("the messages cannot be sent") from error


@dataclass(frozen=True, slots=True)
class Wire:
    """Where a client's calls go, how long they may take, and how their failures are told."""

    target: str
    timeout_s: float | None
    retries: int
    max_message_bytes: int

    def __post_init__(self) -> None:
        if not is_address(self.target):
            raise InvalidArgument("target", f"{self.target!r} is not HOST:PORT, such as 127.0.0.1:50051")
        if not 0 <= self.retries <= MAX_RETRIES:
            raise InvalidArgument("retries", f"{self.retries} is not from 0 to {MAX_RETRIES}")
        if not 1 <= self.max_message_bytes < 1 << 31:
            problem = f"{self.max_message_bytes} is not from 1 to {(1 << 31) - 1}"
            raise InvalidArgument("max_message_bytes", problem)
        self.timeout(None)

    @property
    def options(self) -> list[tuple[str, Any]]:
        """Options of the channel."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            # a dead connection is noticed in a long stream too; servers allow one ping in 5 minutes
            ("grpc.keepalive_time_ms", 300_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            # a server that restarts is found again within the retries, not after gRPC's first second. The
            # least back-off stays gRPC's: it is also how long connecting may take
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 500),
            # a connection each, which a server of several processes spreads over them
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", int(self.retries > 0)),
            ("grpc.service_config", json.dumps(self._service_config())),
        ]

    def _service_config(self) -> dict[str, Any]:
        if not self.retries:
            return {}
        policy = {
            "maxAttempts": self.retries + 1,
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            # every method only reads; a server without room for a request has done nothing yet
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        }
        return {"methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": policy}]}

    def timeout(self, timeout_s: float | None) -> float | None:
        """Seconds that a call may take: its own, or else the client's."""
        return self.bound(self.timeout_s if timeout_s is None else timeout_s)

    @staticmethod
    def bound(seconds: float | None) -> float | None:
        """Seconds that a call or a stream may take; None for more than gRPC can count."""
        if seconds is not None and not seconds > 0:
            raise InvalidArgument("timeout_s", f"{seconds} is not above 0")
        return None if seconds is None or seconds > _FOREVER_S else seconds

    def failure(self, error: grpc.RpcError, timeout_s: float | None) -> InsigniaError:
        """Typed error of a failed call."""
        return typed(error, self.target, timeout_s)

    def read(self, call: Call[T], message: Any) -> T:
        """Value of an answer."""
        try:
            return call.decode(message)
        except Malformed as error:
            raise IncompatibleServer(self.target, f"{call.method}: {error}") from error

    def shown(self, client: str, info: AtlasInfo | None) -> str:
        """Text that stands for a client in a notebook."""
        if info is None:
            return f"<{client} {self.target}>"
        return (
            f"<{client} {self.target}: {info.n_studies:,} studies, {info.n_samples:,} samples, "
            f"{info.n_cells:,} cells, {info.n_genes:,} genes, revision {info.revision}>"
        )


def search(request: SearchRequest) -> Call[SearchResult]:
    """Best cells and hit statistics."""
    return Call(
        "Search",
        _convert.search_request(request),
        partial(_convert.search_result, request=request),
    )


def scores(
    signature: SignatureLike,
    where: WhereLike,
    aggregate: str,
    cell_ids: bool,
    min_coverage: float,
    strict: bool,
) -> Call[tuple[ScoreChunk, GeneReport | None]]:
    """Scores of all cells: a stream; the first message also has the gene report."""
    request = SearchRequest.of(
        signature, where=where, aggregate=aggregate, min_coverage=min_coverage, strict=strict
    )
    return Call("Scores", _convert.scores_request(request, cell_ids), _scores)


def _scores(message: pb.ScoresResponse) -> tuple[ScoreChunk, GeneReport | None]:
    genes = _convert.gene_report(message.genes) if message.HasField("genes") else None
    return _convert.score_chunk(message), genes


def score_stream(
    answers: Generator[tuple[ScoreChunk, GeneReport | None], None, None], target: str
) -> ScoreStream:
    """The answers of `scores`, of which the first, with the gene report, has come."""
    first, genes = next(answers, (None, None))
    if first is None or genes is None:
        answers.close()
        raise IncompatibleServer(target, "Scores: its first answer has no gene report")
    return ScoreStream(_score_chunks(first, answers), genes)


def _score_chunks(
    first: ScoreChunk, answers: Generator[tuple[ScoreChunk, GeneReport | None], None, None]
) -> Generator[ScoreChunk, None, None]:
    with closing(answers):
        for chunk in chain([first], (chunk for chunk, _ in answers)):
            if len(chunk.scores):  # nothing but the gene report if no cell passes the filter
                yield chunk


def screen(
    request: ScreenRequest, signatures: Iterable[Signature | SkippedSignature]
) -> Call[ScreenPlan | ScreenChunk]:
    """Groups of many signatures: a stream each way; the first answer is the plan."""
    return Call("Screen", Sending(_screen_messages(request, signatures)), _screen_answer)


def _screen_messages(
    request: ScreenRequest, signatures: Iterable[Signature | SkippedSignature]
) -> Iterator[pb.ScreenRequest]:
    yield _convert.screen_question(request)
    source = iter(signatures)
    while some := list(islice(source, SIGNATURES_PER_MESSAGE)):
        yield _convert.screen_signatures(some)


def _screen_answer(message: pb.ScreenResponse) -> ScreenPlan | ScreenChunk:
    if message.HasField("plan"):
        return _convert.screen_plan(message)
    return _convert.screen_chunk(message)


def screen_stream(answers: Generator[ScreenPlan | ScreenChunk, None, None], target: str) -> ScreenStream:
    """The answers of a screen, of which the plan has come."""
    plan = next(answers, None)
    if not isinstance(plan, ScreenPlan):
        answers.close()
        raise IncompatibleServer(target, "Screen: its first answer is not the plan")
    return ScreenStream(_screen_chunks(answers), plan)


def _screen_chunks(
    answers: Generator[ScreenPlan | ScreenChunk, None, None],
) -> Generator[ScreenChunk, None, None]:
    with closing(answers):
        for answer in answers:
            if isinstance(answer, ScreenChunk):
                yield answer


def info() -> Call[AtlasInfo]:
    """What the atlas holds."""
    return Call("GetAtlas", pb.GetAtlasRequest(), _convert.atlas_info)


def studies() -> Call[list[StudyInfo]]:
    """Studies in tie order."""
    return Call("ListStudies", pb.ListStudiesRequest(), _convert.studies)


def fields(max_values: int) -> Call[list[FieldInfo]]:
    """Metadata fields."""
    if not 0 <= max_values < 1 << 32:
        raise InvalidArgument("max_values", f"{max_values} is not from 0 to {(1 << 32) - 1}")
    return Call("ListFields", pb.ListFieldsRequest(max_values=max_values), _convert.fields)


def resolve_genes(names: Sequence[str], strict: bool) -> Call[GeneReport]:
    """What each name means."""
    if isinstance(names, str):
        raise InvalidArgument("names", f"{names!r} is one string; pass a list such as ['CD14', 'LYZ']")
    return Call(
        "ResolveGenes",
        _convert.sendable(pb.ResolveGenesRequest)(genes=names, strict_genes=strict),
        lambda answer: _convert.gene_report(answer.genes),
    )


def cells(ids: Iterable[CellId | tuple[str, str] | str]) -> Call[Table]:
    """Metadata of cells."""
    if isinstance(ids, str):
        raise InvalidArgument("ids", f"{ids!r} is one string; pass a list such as [{ids!r}]")
    return Call(
        "GetCells",
        _convert.cells_request(CellId.of(i) for i in ids),
        lambda answer: table(answer.cells),
    )


def collected(stream: Iterable[tuple[ScoreChunk, GeneReport | None]], cell_ids: bool) -> Scores:
    """All of a stream of scores, with names of the cells or without."""
    chunks, genes = [], GeneReport({})
    for chunk, report in stream:
        genes = report or genes
        if len(chunk.scores):
            chunks.append(chunk)
    return Scores(tuple(chunks), genes, cell_ids)
