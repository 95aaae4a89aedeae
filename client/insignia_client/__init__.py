"""Ask an Insignia server which cells, samples and studies use a gene signature.

>>> from insignia_client import Client, gt
>>> with Client("127.0.0.1:50051") as client:  # doctest: +SKIP
...     result = client.search(["ISG15", "IFI6", "IFIT1"], where={"age": gt(40)})
...     result.cells, result.groups, result.plot()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from insignia_model import (
    AtlasInfo,
    CellId,
    Condition,
    Contrast,
    DeRule,
    Explanation,
    FieldInfo,
    GeneReport,
    HitRule,
    ScoreChunk,
    Scores,
    ScoreStream,
    ScreenChunk,
    ScreenRequest,
    ScreenStream,
    SearchRequest,
    SearchResult,
    Signature,
    Signatures,
    SimilarRequest,
    SkippedSignature,
    StudyInfo,
    Table,
    ge,
    gt,
    is_missing,
    le,
    lt,
    not_in,
    parse_condition,
    read_gmt,
    read_signatures,
)
from insignia_model.errors import AtlasError, InsigniaError, RequestError, ServiceError

if TYPE_CHECKING:
    from insignia_client.aio import AsyncClient
    from insignia_client.client import Client

__all__ = [
    "AsyncClient",
    "AtlasError",
    "AtlasInfo",
    "CellId",
    "Client",
    "Condition",
    "Contrast",
    "DeRule",
    "Explanation",
    "FieldInfo",
    "GeneReport",
    "HitRule",
    "InsigniaError",
    "RequestError",
    "ScoreChunk",
    "ScoreStream",
    "Scores",
    "ScreenChunk",
    "ScreenRequest",
    "ScreenStream",
    "SearchRequest",
    "SearchResult",
    "ServiceError",
    "Signature",
    "Signatures",
    "SimilarRequest",
    "SkippedSignature",
    "StudyInfo",
    "Table",
    "ge",
    "gt",
    "is_missing",
    "le",
    "lt",
    "not_in",
    "parse_condition",
    "read_gmt",
    "read_signatures",
]


def __getattr__(name: str) -> Any:
    """Load a client when it is named: gRPC takes 0.1 s, which commands on an atlas directory save."""
    module = {"Client": "insignia_client.client", "AsyncClient": "insignia_client.aio"}.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
