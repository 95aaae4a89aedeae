"""The embedded API: an atlas in this process, no server."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from insignia_index.cancel import CancelToken
from insignia_index.catalog.catalog import read_revision, with_latest
from insignia_index.catalog.store import Store
from insignia_index.dense.dense import Dense
from insignia_index.describe import atlas_info, field_info, study_info
from insignia_index.device import open_engine
from insignia_index.search.cells import cell_table, find_cells
from insignia_index.search.engine import Session, search, stream_scores
from insignia_index.search.explain import explain
from insignia_index.search.gene_cache import GENE_CACHE_BYTES, GeneCache
from insignia_index.search.plan import Groupings, resolve_names
from insignia_index.search.profiles import compile_kernels
from insignia_index.search.screening import Screening
from insignia_index.search.tasks import BackgroundThreads, Buffers, Threads
from insignia_index.similarity import SimilarCells
from insignia_index.snapshot import Snapshot
from insignia_model.condition import WhereLike
from insignia_model.contrast import ContrastsLike
from insignia_model.errors import AtlasClosed, InvalidArgument
from insignia_model.explanation import Explanation
from insignia_model.hits import HitRule
from insignia_model.info import AtlasInfo, FieldInfo, StudyInfo
from insignia_model.request import CellId, SearchRequest
from insignia_model.result import GeneReport, Scores, ScoreStream, SearchResult
from insignia_model.screen import (
    ScreenRequest,
    ScreenStream,
    SignaturesLike,
    SkippedSignature,
    signatures_of,
)
from insignia_model.signature import Signature, SignatureLike
from insignia_model.table import Table

if TYPE_CHECKING:
    from insignia_index.gpu.engine import DeviceEngine


class Atlas(SimilarCells):
    """An open atlas. Safe for many threads; a search keeps the revision that it began with.

    Open with `Atlas.open`, close with `close` or as a context manager.
    """

    def __init__(
        self,
        path: Path,
        store: Store,
        threads: Threads,
        cache_bytes: int,
        device: DeviceEngine | None = None,
    ) -> None:
        self.path = path
        self._device = device
        self._cache_bytes = cache_bytes
        self._store = store
        self._threads = threads
        self._background = BackgroundThreads(threads.n_threads)
        self._refreshing = threading.Lock()
        self._open_session: Session | None = self._new_session(None)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        cache_bytes: int = GENE_CACHE_BYTES,
        device: str = "cpu",
        device_memory: int | None = None,
    ) -> Self:
        """Open the atlas directory. ``threads``: at most so many work on one search (default: all cores).

        ``cache_bytes``: memory for the postings of genes that were asked for; 0 leaves them all in the files.
        ``device``: ``cuda`` or ``cuda:N`` answers searches on a GPU (`DeviceNotFound` without one), ``auto``
        does where there is one. ``device_memory``: bytes of its memory for postings (default: what is free,
        less room to work in); what does not fit is answered by the processor. The answers are the same.
        """
        if threads is not None and threads < 1:
            raise InvalidArgument("threads", f"{threads} is below 1")
        path = Path(path).absolute()  # whatever directory is the current one when a file is needed
        store = Store(path)
        engine = None
        try:
            engine = open_engine(device, device_memory)
            return cls(path, store, Threads(threads), cache_bytes, engine)
        except BaseException:
            if engine is not None:
                engine.close()
            store.close()
            raise

    def _new_session(self, earlier: Session | None) -> Session:
        """A session of the latest revision. FAISS indexes are read when the first question needs them."""
        before = earlier.snapshot if earlier else None
        snapshot = with_latest(self._store, lambda: Snapshot(self.path, self._store, before))
        genes = GeneCache(snapshot, self._cache_bytes)
        faiss = snapshot.record.faiss
        dense, device = None, None
        if faiss is not None:
            studies = [study.faiss for study in snapshot.studies]
            number = self._device.number if self._device else None
            is_latest = partial(_is_latest, self._store, snapshot.revision)
            dense = Dense(snapshot, faiss, studies, device=number, is_latest=is_latest)
        if self._device is not None:
            # FAISS comes when it is first asked for, and finds the memory that is left for it; what that of
            # the earlier revision has taken is not free anyway
            there = earlier.dense.bytes_on_device if earlier and earlier.dense else 0
            reserved = max(0, dense.device_bytes - there) if dense else 0
            device = self._device.open(snapshot, earlier.device if earlier else None, reserved)
        return Session(snapshot, Groupings(snapshot), genes, Buffers(), self._threads, dense, device)

    def refresh(self) -> bool:
        """Take up a newer revision; searches that run keep theirs. Raises `AtlasReplaced`."""
        with self._refreshing:
            current = self._session
            self._store.check_place()
            if read_revision(self._store) == current.snapshot.revision:
                return False
            self._open_session = self._new_session(current)
            return True

    def close(self) -> None:
        """Stop the threads and let go of the files. No search may be running.

        What `iter_scores` returned keeps its revision, and can still be read.
        """
        with self._refreshing:  # which would open another session
            if self._open_session is None:
                return
            self._open_session = None
            self._threads.close()
            self._background.close()
            if self._device is not None:
                self._device.close()
            self._store.close()

    @property
    def _session(self) -> Session:
        if self._open_session is None:
            raise AtlasClosed(self.path)
        return self._open_session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._open_session is None:
            return f"<Atlas {self.path} closed>"
        snapshot = self._session.snapshot
        return (
            f"<Atlas {self.path} revision {snapshot.revision}: {len(snapshot.studies)} studies, "
            f"{snapshot.n_cells:,} cells, {len(snapshot.genes):,} genes>"
        )

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
    ) -> SearchResult:
        """Best ``k`` cells and the hit statistics of every group; see `SearchRequest`."""
        return self.run(
            SearchRequest.of(
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
        )

    def run(
        self,
        request: SearchRequest,
        *,
        cancel: CancelToken | None = None,
        threads: int | None = None,
        max_groups: int | None = None,
    ) -> SearchResult:
        """Answer a request, on at most ``threads`` threads; stops with `SearchCancelled` if told to.

        ``max_groups``: more groups, or samples in them, are refused with `LimitExceeded`.
        """
        return search(self._session, request, cancel or CancelToken(), threads, max_groups)

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
    ) -> Explanation:
        """Contribution of each gene to the best ``k`` cells and to every group; see `Explanation`.

        ``min_cells``: groups with fewer cells are not ranked. The other options: as in `search`.
        """
        return self.run_explain(
            SearchRequest.of(
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
        )

    def run_explain(
        self,
        request: SearchRequest,
        *,
        cancel: CancelToken | None = None,
        threads: int | None = None,
        max_rows: int | None = None,
    ) -> Explanation:
        """Explain the search ``request``; its ``quantiles`` and ``engine`` have no effect.

        ``max_rows``: more contributions to cells, or to groups, are refused with `LimitExceeded`.
        """
        return explain(self._session, request, cancel or CancelToken(), threads, max_rows)

    def scores(
        self,
        signature: SignatureLike,
        *,
        where: WhereLike = None,
        aggregate: str = "mean",
        cell_ids: bool = False,
        min_coverage: float = 0.0,
        strict: bool = False,
    ) -> Scores:
        """Scores of all cells that pass the filter, in (study, row) order."""
        request = _scores_request(signature, where, aggregate, min_coverage, strict)
        stream = stream_scores(self._session, request, cell_ids, CancelToken())
        return Scores(tuple(stream), stream.genes, cell_ids)

    def iter_scores(
        self,
        signature: SignatureLike,
        *,
        where: WhereLike = None,
        aggregate: str = "mean",
        cell_ids: bool = False,
        min_coverage: float = 0.0,
        strict: bool = False,
        cancel: CancelToken | None = None,
    ) -> ScoreStream:
        """The same as chunks of at most 65,536 cells of one study, scored as they are asked for."""
        request = _scores_request(signature, where, aggregate, min_coverage, strict)
        return stream_scores(self._session, request, cell_ids, cancel or CancelToken())

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
    ) -> ScreenStream:
        """Groups of every signature, see `ScreenRequest`; a signature that cannot be scored has a reason."""
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
        return self.run_screen(request, signatures_of(signatures))

    def run_screen(
        self,
        request: ScreenRequest,
        signatures: Iterable[Signature | SkippedSignature],
        *,
        cancel: CancelToken | None = None,
        chunk_bytes: int | None = None,
        max_groups: int | None = None,
    ) -> ScreenStream:
        """Answer a screen of signatures that are read as they are needed; gives way to searches."""
        session, cancel = self._session, cancel or CancelToken()
        screening = Screening(
            session, self._background, request, cancel, chunk_bytes=chunk_bytes, max_groups=max_groups
        )
        return ScreenStream(screening.chunks(signatures), screening.plan)

    def genes(self, names: Iterable[str], *, strict: bool = False) -> GeneReport:
        """What each gene name means to this atlas; ``strict`` raises `InexactGenes` unless all are exact."""
        if isinstance(names, str):
            raise InvalidArgument("names", f"{names!r} is one string; pass a list such as ['CD14', 'LYZ']")
        return resolve_names(self._session.snapshot, names, strict)

    resolve_genes = genes

    def studies(self) -> list[StudyInfo]:
        """Studies in the order in which ties are broken."""
        return [study_info(record) for record in self._session.snapshot.studies]

    def fields(self, max_values: int = 20) -> list[FieldInfo]:
        """Metadata fields; category fields with their ``max_values`` commonest values."""
        if max_values < 0:
            raise InvalidArgument("max_values", f"{max_values} is negative")
        snapshot = self._session.snapshot
        return [field_info(snapshot, field, max_values) for field in snapshot.fields]

    def cells(self, ids: Iterable[CellId | tuple[str, str] | str]) -> Table:
        """Metadata of cells, named ``(study, cell_id)`` or ``"study:cell_id"``, in the order asked."""
        if isinstance(ids, str):
            raise InvalidArgument("ids", f"{ids!r} is one string; pass a list such as [{ids!r}]")
        snapshot = self._session.snapshot
        return cell_table(snapshot, *find_cells(snapshot, map(CellId.of, ids)))

    def info(self) -> AtlasInfo:
        """The atlas as a whole."""
        info, device = atlas_info(self._session.snapshot), self._session.device
        return info if device is None else replace(info, device=device.name, n_cells_on_device=device.n_cells)

    def warm(self) -> None:
        """Load gene names, and compile or load the kernels, so that the first search does not wait."""
        if self._session.snapshot.genes:
            self.genes(["not a gene"])
            signature = Signature({next(iter(self._session.snapshot.gene_ids)): 1.0})
            self.search(signature, k=1)
            self.explain(signature, k=1)
            self.similar(profile=signature, k=1)
            compile_kernels(self._session.snapshot, self._session.value_bits == 16)


def _is_latest(store: Store, revision: int) -> bool:
    return read_revision(store) == revision


def _scores_request(
    signature: SignatureLike, where: WhereLike, aggregate: str, min_coverage: float, strict: bool
) -> SearchRequest:
    return SearchRequest.of(
        signature, where=where, group_by=(), aggregate=aggregate, min_coverage=min_coverage, strict=strict
    )
