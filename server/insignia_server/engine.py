"""All that the server asks of an engine; `insignia_index.Atlas` offers it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from insignia_index import CancelToken
from insignia_model import (
    AtlasInfo,
    CellId,
    Condition,
    Explanation,
    FieldInfo,
    GeneReport,
    ScoreStream,
    ScreenRequest,
    ScreenStream,
    SearchRequest,
    SearchResult,
    Signature,
    SimilarRequest,
    SkippedSignature,
    StudyInfo,
    Table,
)


class Engine(Protocol):
    """An open atlas. Every method may be called from many threads at once."""

    def run(
        self,
        request: SearchRequest,
        *,
        cancel: CancelToken | None = None,
        threads: int | None = None,
        max_groups: int | None = None,
    ) -> SearchResult:
        """Answer of one search; more groups, or samples in them, are refused."""
        ...

    def run_explain(
        self,
        request: SearchRequest,
        *,
        cancel: CancelToken | None = None,
        threads: int | None = None,
        max_rows: int | None = None,
    ) -> Explanation:
        """Contributions of the genes to the answer of a search, at most so many to cells and to groups."""
        ...

    def run_similar(
        self,
        request: SimilarRequest,
        *,
        cancel: CancelToken | None = None,
        threads: int | None = None,
        max_groups: int | None = None,
    ) -> SearchResult:
        """Answer of one search for similar cells."""
        ...

    def iter_scores(
        self,
        signature: Signature,
        *,
        where: tuple[Condition, ...] = (),
        aggregate: str = "mean",
        cell_ids: bool = False,
        min_coverage: float = 0.0,
        strict: bool = False,
        cancel: CancelToken | None = None,
    ) -> ScoreStream:
        """Scores in (study, row) order, chunks of at most 65,536 cells."""
        ...

    def run_screen(
        self,
        request: ScreenRequest,
        signatures: Iterable[Signature | SkippedSignature],
        *,
        cancel: CancelToken | None = None,
        chunk_bytes: int | None = None,
        max_groups: int | None = None,
    ) -> ScreenStream:
        """Groups of every signature, in chunks of at most about so many bytes; giving way to searches."""
        ...

    def genes(self, names: Sequence[str], *, strict: bool = False) -> GeneReport:
        """What each name means to the atlas."""
        ...

    def studies(self) -> list[StudyInfo]:
        """Studies in tie order."""
        ...

    def fields(self, max_values: int = 20) -> list[FieldInfo]:
        """Metadata fields over all studies."""
        ...

    def cells(self, ids: Sequence[CellId]) -> Table:
        """Metadata of cells, in the order asked."""
        ...

    def info(self) -> AtlasInfo:
        """The atlas as a whole."""
        ...

    def refresh(self) -> bool:
        """Take up a newer revision if there is one; searches that run keep theirs."""
        ...

    def warm(self) -> None:
        """Compile and load what the first search would otherwise wait for."""

    def close(self) -> None:
        """Give back files and memory."""
