"""What commands ask: an atlas directory, opened in this process, or a server. Both answer alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import click

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
from insignia_model.errors import InvalidArgument, MissingExtra
from insignia_model.optional import extra

EMBEDDED = "insignia.embedded"


class Backend(Protocol):
    """An open atlas: the methods that `Client` and the embedded `Atlas` share."""

    def run(self, request: SearchRequest) -> SearchResult:
        """Answer of a search."""
        ...

    def run_explain(self, request: SearchRequest) -> Explanation:
        """Contributions of the genes to the answer of a search."""
        ...

    def run_similar(self, request: SimilarRequest) -> SearchResult:
        """Answer of a search for similar cells."""
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
    ) -> ScoreStream:
        """Scores of all cells, in (study, row) order."""
        ...

    def run_screen(
        self, request: ScreenRequest, signatures: Iterable[Signature | SkippedSignature]
    ) -> ScreenStream:
        """Groups of every signature."""
        ...

    def studies(self) -> list[StudyInfo]:
        """Studies in tie order."""
        ...

    def fields(self, max_values: int = 20) -> list[FieldInfo]:
        """Metadata fields over all studies."""
        ...

    def resolve_genes(self, names: Sequence[str], *, strict: bool = False) -> GeneReport:
        """What each gene name means."""
        ...

    def cells(self, ids: Sequence[CellId]) -> Table:
        """Metadata of cells, in the order asked."""
        ...

    def info(self) -> AtlasInfo:
        """The atlas as a whole."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_backend(atlas: Path | None, server: str | None, timeout_s: float) -> Backend:
    """Open the one of both that is given."""
    if (atlas is None) == (server is None):
        raise click.UsageError("give either --atlas DIR or --server HOST:PORT")
    if server is not None:
        from insignia_client.client import Client
        from insignia_client.errors import is_address

        if not is_address(server):
            raise InvalidArgument("--server", f"{server!r} is not HOST:PORT, such as 127.0.0.1:50051")
        return Client(server, timeout_s=timeout_s)
    with extra("index", "--atlas"):
        for entry in entry_points(group=EMBEDDED):
            opened: Backend = entry.load().open(atlas)
            return opened
    raise MissingExtra("--atlas", "index", "insignia_index")
