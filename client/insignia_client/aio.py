"""The client for asyncio programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from insignia_client import _calls
from insignia_client._calls import Call, Wire
from insignia_client._explain import explain
from insignia_client._similar import similar
from insignia_client.errors import ClientClosed
from insignia_model import (
    AsyncScoreStream,
    AsyncScreenStream,
    AtlasInfo,
    CellId,
    Explanation,
    FieldInfo,
    GeneReport,
    HitRule,
    Scores,
    ScreenRequest,
    SearchRequest,
    SearchResult,
    Signature,
    SkippedSignature,
    StudyInfo,
    Table,
)
from insignia_model.condition import WhereLike
from insignia_model.contrast import ContrastsLike
from insignia_model.screen import SignaturesLike, signatures_of
from insignia_model.signature import SignatureLike
from insignia_model.similar import CellLike, SimilarRequest
from insignia_proto.v1.insignia_pb2_grpc import AtlasServiceStub

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same methods and options, awaited.

    >>> async with AsyncClient("127.0.0.1:50051") as client:  # doctest: +SKIP
    ...     results = await asyncio.gather(*(client.search(genes) for genes in signatures))

    A cancelled task stops the server's work too. Leave `iter_scores` and `screen` early through
    `contextlib.aclosing`, which closes them at once.
    """

    def __init__(
        self,
        target: str = _calls.DEFAULT_TARGET,
        *,
        timeout_s: float | None = _calls.DEFAULT_TIMEOUT_S,
        retries: int = _calls.DEFAULT_RETRIES,
        max_message_bytes: int = _calls.DEFAULT_MESSAGE_BYTES,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._wire = Wire(target, timeout_s, retries, max_message_bytes)
        self._credentials = credentials
        self._info: AtlasInfo | None = None
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stub: Any = None
        self._closed = False

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._wire.target

    async def search(
        self,
        signature: SignatureLike,
        *,
        k: int = 100,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = None,
        aggregate: str = "mean",
        quantiles: bool = False,
        min_cells: int = 10,
        min_coverage: float = 0.0,
        contrasts: ContrastsLike = (),
        compare: bool = False,
        min_samples: int = 3,
        strict: bool = False,
        null: bool = False,
        engine: str = "auto",
        recall_target: float = 0.99,
        groups: bool | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """Best ``k`` cells, and hit statistics of every group; see `Client.search`."""
        request = SearchRequest.of(
            signature,
            k=k,
            where=where,
            group_by=group_by,
            hits=hits,
            aggregate=aggregate,
            quantiles=quantiles,
            min_cells=min_cells,
            min_coverage=min_coverage,
            contrasts=contrasts,
            compare=compare,
            min_samples=min_samples,
            strict=strict,
            null=null,
            engine=engine,
            recall_target=recall_target,
            groups=groups,
        )
        return await self.run(request, timeout_s=timeout_s)

    async def run(self, request: SearchRequest, *, timeout_s: float | None = None) -> SearchResult:
        """Answer of a search that was made before."""
        return await self._ask(_calls.search(request), timeout_s)

    async def similar(
        self,
        cells: CellLike | Iterable[CellLike] | None = None,
        *,
        centroid: WhereLike = None,
        profile: SignatureLike | None = None,
        k: int = 100,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = None,
        quantiles: bool = False,
        min_cells: int = 10,
        exclude_study: bool = False,
        strict: bool = False,
        engine: str = "auto",
        recall_target: float = 0.99,
        groups: bool | None = None,
        timeout_s: float | None = None,
    ) -> SearchResult:
        """Cells most like ``cells``, a ``centroid`` or a ``profile``; see `SimilarRequest`."""
        request = SimilarRequest.of(
            cells,
            centroid=centroid,
            profile=profile,
            k=k,
            where=where,
            group_by=group_by,
            hits=hits,
            quantiles=quantiles,
            min_cells=min_cells,
            exclude_study=exclude_study,
            strict=strict,
            engine=engine,
            recall_target=recall_target,
            groups=groups,
        )
        return await self.run_similar(request, timeout_s=timeout_s)

    async def run_similar(self, request: SimilarRequest, *, timeout_s: float | None = None) -> SearchResult:
        """Answer of a request that was made before."""
        return await self._ask(similar(request), timeout_s)

    async def explain(
        self,
        signature: SignatureLike,
        *,
        k: int = 20,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = None,
        aggregate: str = "mean",
        min_cells: int = 10,
        min_coverage: float = 0.0,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> Explanation:
        """Contribution of each gene to the best ``k`` cells and to every group; see `Explanation`.

        ``min_cells``: groups with fewer cells are not ranked. The other options: as in `search`.
        """
        request = SearchRequest.of(
            signature,
            k=k,
            where=where,
            group_by=group_by,
            hits=hits,
            aggregate=aggregate,
            min_cells=min_cells,
            min_coverage=min_coverage,
            strict=strict,
        )
        return await self.run_explain(request, timeout_s=timeout_s)

    async def run_explain(self, request: SearchRequest, *, timeout_s: float | None = None) -> Explanation:
        """Explain a search that was made before (its ``quantiles`` and ``engine`` have no effect)."""
        return await self._ask(explain(request), timeout_s)

    async def scores(
        self,
        signature: SignatureLike,
        *,
        where: WhereLike = None,
        aggregate: str = "mean",
        cell_ids: bool = False,
        min_coverage: float = 0.0,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> Scores:
        """Scores of all cells that pass ``where``, in (study, row) order, and what became of the genes."""
        call = _calls.scores(signature, where, aggregate, cell_ids, min_coverage, strict)
        return _calls.collected([item async for item in self._stream(call, timeout_s)], cell_ids)

    def iter_scores(
        self,
        signature: SignatureLike,
        *,
        where: WhereLike = None,
        aggregate: str = "mean",
        cell_ids: bool = False,
        min_coverage: float = 0.0,
        strict: bool = False,
        timeout_s: float | None = None,
    ) -> AsyncScoreStream:
        """Scores as they come, in runs of cells of one study; closing the iterator ends the server's work."""
        call = _calls.scores(signature, where, aggregate, cell_ids, min_coverage, strict)
        return AsyncScoreStream(self._stream(call, timeout_s))

    def screen(
        self,
        signatures: SignaturesLike,
        *,
        where: WhereLike = None,
        group_by: str | Sequence[str] = ("study",),
        hits: HitRule | str | None = "percentile:95",
        aggregate: str = "mean",
        min_cells: int = 10,
        strict: bool = False,
        null: bool = False,
        n_leading: int = 0,
        timeout_s: float | None = None,
    ) -> AsyncScreenStream:
        """Groups of every signature, chunk by chunk, or all of them by ``await stream.to_frame()``.

        Closing the stream ends the server's work.
        """
        request = ScreenRequest.of(
            where=where,
            group_by=group_by,
            hits=hits,
            aggregate=aggregate,
            min_cells=min_cells,
            strict=strict,
            null=null,
            n_leading=n_leading,
        )
        return self.run_screen(request, signatures_of(signatures), timeout_s=timeout_s)

    def run_screen(
        self,
        request: ScreenRequest,
        signatures: Iterable[Signature | SkippedSignature],
        *,
        timeout_s: float | None = None,
    ) -> AsyncScreenStream:
        """Answer of a request that was made before."""
        return AsyncScreenStream(self._stream(_calls.screen(request, signatures), timeout_s))

    async def studies(self, *, timeout_s: float | None = None) -> list[StudyInfo]:
        """Studies, in the order in which ties are broken."""
        return await self._ask(_calls.studies(), timeout_s)

    async def fields(self, max_values: int = 20, *, timeout_s: float | None = None) -> list[FieldInfo]:
        """Metadata fields over all studies, each with its ``max_values`` commonest values."""
        return await self._ask(_calls.fields(max_values), timeout_s)

    async def resolve_genes(
        self, names: Sequence[str], *, strict: bool = False, timeout_s: float | None = None
    ) -> GeneReport:
        """What each gene name means to the atlas; ``strict``: `InexactGenes` unless all are exact."""
        return await self._ask(_calls.resolve_genes(names, strict), timeout_s)

    #: As an embedded atlas calls it.
    genes = resolve_genes

    async def cells(
        self, ids: Iterable[CellId | tuple[str, str] | str], *, timeout_s: float | None = None
    ) -> Table:
        """Metadata of cells, in the order asked; ``"study:cell_id"`` or ``(study, cell_id)``."""
        return await self._ask(_calls.cells(ids), timeout_s)

    async def info(self, *, timeout_s: float | None = None) -> AtlasInfo:
        """What the atlas holds."""
        self._info = await self._ask(_calls.info(), timeout_s)
        return self._info

    async def close(self) -> None:
        """Give the connection back; calls under way are cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return self._wire.shown("AsyncClient", self._info)

    async def _ask(self, call: Call[T], timeout_s: float | None) -> T:
        send, seconds = self._method(call), self._wire.timeout(timeout_s)
        try:
            message = await send(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._wire.failure(error, seconds) from error
        return self._wire.read(call, message)

    async def _stream(self, call: Call[T], timeout_s: float | None) -> AsyncGenerator[T, None]:
        timeout_s = self._wire.bound(timeout_s)
        answer = self._method(call)(call.request, timeout=timeout_s)
        try:
            async for message in answer:
                yield self._wire.read(call, message)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if call.own_error is not None:  # for which gRPC cancels the call
                raise call.own_error from None
            if isinstance(error, asyncio.CancelledError):
                raise
            raise self._wire.failure(error, timeout_s) from error
        finally:
            answer.cancel()  # no effect on a stream that has ended

    def _method(self, call: Call[Any]) -> Any:
        if self._closed:
            raise ClientClosed(self.target)
        loop = asyncio.get_running_loop()
        if self._channel is None:  # made here, inside the running loop that it belongs to
            self._loop = loop
            options = self._wire.options
            self._channel = (
                grpc.aio.insecure_channel(self.target, options)
                if self._credentials is None
                else grpc.aio.secure_channel(self.target, self._credentials, options)
            )
            self._stub = AtlasServiceStub(self._channel)
        elif loop is not self._loop:
            raise RuntimeError(f"the client of {self.target} belongs to another event loop; make one in each")
        return getattr(self._stub, call.method)
