"""The client for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from insignia_client import _calls
from insignia_client._calls import Call, Wire
from insignia_client._explain import explain
from insignia_client._similar import similar
from insignia_client.errors import ClientClosed
from insignia_model import (
    AtlasInfo,
    CellId,
    Explanation,
    FieldInfo,
    GeneReport,
    HitRule,
    Scores,
    ScoreStream,
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
from insignia_model.contrast import ContrastsLike
from insignia_model.screen import SignaturesLike, signatures_of
from insignia_model.signature import SignatureLike
from insignia_model.similar import CellLike, SimilarRequest
from insignia_proto.v1.insignia_pb2_grpc import AtlasServiceStub

T = TypeVar("T")


class Client:
    """Connection to an Insignia server: the methods of an embedded atlas, answered over gRPC.

    >>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
    ...     result = client.search(["ISG15", "IFI6", "IFIT1"], group_by=["study", "cell_type"])
    ...     result.groups

    One client serves any number of threads. ``timeout_s`` bounds a call (every method takes its own);
    the streams `scores`, `iter_scores` and `screen` have a bound only if the call gives one, because their
    length depends on the atlas and on the reader. ``retries``: how often a call that found no server, or no
    room on it, is sent again, 0.1 s and more apart. ``credentials``: `grpc.ssl_channel_credentials()`
    and the like; without them the connection is not encrypted.
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
        self._wire = wire = Wire(target, timeout_s, retries, max_message_bytes)
        self._info: AtlasInfo | None = None
        # no connection yet: gRPC connects at the first call
        self._channel: grpc.Channel | None = (
            grpc.insecure_channel(target, wire.options)
            if credentials is None
            else grpc.secure_channel(target, credentials, wire.options)
        )
        self._stub = AtlasServiceStub(self._channel)

    @property
    def target(self) -> str:
        """Address of the server."""
        return self._wire.target

    def search(
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
        """Best ``k`` cells, and hit statistics of every group over all cells that pass ``where``.

        ``signature``: genes, {gene: weight} or a `Signature`. ``where``: {field: value | list | comparison}
        or texts such as ``"tissue=blood,lung"``. ``hits``: a `HitRule` or its text, ``"percentile:95"``.
        The other options: see `SearchRequest`.
        """
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
        return self.run(request, timeout_s=timeout_s)

    def run(self, request: SearchRequest, *, timeout_s: float | None = None) -> SearchResult:
        """Answer of a search that was made before."""
        return self._ask(_calls.search(request), timeout_s)

    def similar(
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
        return self.run_similar(request, timeout_s=timeout_s)

    def run_similar(self, request: SimilarRequest, *, timeout_s: float | None = None) -> SearchResult:
        """Answer of a request that was made before."""
        return self._ask(similar(request), timeout_s)

    def explain(
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
        return self.run_explain(request, timeout_s=timeout_s)

    def run_explain(self, request: SearchRequest, *, timeout_s: float | None = None) -> Explanation:
        """Explain a search that was made before (its ``quantiles`` and ``engine`` have no effect)."""
        return self._ask(explain(request), timeout_s)

    def scores(
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
        return _calls.collected(self._stream(call, timeout_s), cell_ids)

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
    ) -> ScoreStream:
        """Scores as they come, in runs of cells of one study; closing the iterator ends the server's work."""
        call = _calls.scores(signature, where, aggregate, cell_ids, min_coverage, strict)
        return _calls.score_stream(self._stream(call, timeout_s), self.target)

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
    ) -> ScreenStream:
        """Groups of every signature: an iterator of chunks, or all as a frame; see `ScreenRequest`.

        Signatures are sent as the server wants them, and closing the stream ends the server's work.
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
    ) -> ScreenStream:
        """Answer of a screen that was made before."""
        answers = self._stream(_calls.screen(request, signatures), timeout_s)
        return _calls.screen_stream(answers, self.target)

    def studies(self, *, timeout_s: float | None = None) -> list[StudyInfo]:
        """Studies, in the order in which ties are broken."""
        return self._ask(_calls.studies(), timeout_s)

    def fields(self, max_values: int = 20, *, timeout_s: float | None = None) -> list[FieldInfo]:
        """Metadata fields over all studies, each with its ``max_values`` commonest values."""
        return self._ask(_calls.fields(max_values), timeout_s)

    def resolve_genes(
        self, names: Sequence[str], *, strict: bool = False, timeout_s: float | None = None
    ) -> GeneReport:
        """What each gene name means to the atlas; ``strict``: `InexactGenes` unless all are exact."""
        return self._ask(_calls.resolve_genes(names, strict), timeout_s)

    #: As an embedded atlas calls it.
    genes = resolve_genes

    def cells(
        self, ids: Iterable[CellId | tuple[str, str] | str], *, timeout_s: float | None = None
    ) -> Table:
        """Metadata of cells, in the order asked; ``"study:cell_id"`` or ``(study, cell_id)``."""
        return self._ask(_calls.cells(ids), timeout_s)

    def info(self, *, timeout_s: float | None = None) -> AtlasInfo:
        """What the atlas holds."""
        self._info = self._ask(_calls.info(), timeout_s)
        return self._info

    def close(self) -> None:
        """Give the connection back; calls under way fail."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return self._wire.shown("Client", self._info)

    def _ask(self, call: Call[T], timeout_s: float | None) -> T:
        send, seconds = self._method(call), self._wire.timeout(timeout_s)
        try:
            message = send(call.request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._wire.failure(error, seconds) from error
        return self._wire.read(call, message)

    def _stream(self, call: Call[T], timeout_s: float | None) -> Generator[T, None, None]:
        timeout_s = self._wire.bound(timeout_s)
        answer = self._method(call)(call.request, timeout=timeout_s)
        try:
            for message in answer:
                yield self._wire.read(call, message)
        except grpc.RpcError as error:
            if call.own_error is not None:
                raise call.own_error from None
            raise self._wire.failure(error, timeout_s) from error
        finally:
            answer.cancel()  # no effect on a stream that has ended

    def _method(self, call: Call[Any]) -> Any:
        if self._channel is None:
            raise ClientClosed(self.target)
        return getattr(self._stub, call.method)
