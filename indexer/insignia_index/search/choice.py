"""Which engine answers a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from insignia_model.errors import EngineUnavailable
from insignia_model.request import SearchRequest
from insignia_model.similar import SimilarRequest

if TYPE_CHECKING:
    from insignia_index.search.engine import Session

#: A question that ends in scores of all cells.
Question: TypeAlias = SearchRequest | SimilarRequest

SPARSE = "sparse"


def choose_engine(session: Session, request: Question) -> str:
    """Name of the engine that is to answer; raises `EngineUnavailable` if it is asked for and cannot."""
    if request.engine == "faiss":
        raise EngineUnavailable(
            "faiss",
            "the atlas carries no FAISS index",
            "build it with --faiss, or use engine=auto",
        )
    return SPARSE
