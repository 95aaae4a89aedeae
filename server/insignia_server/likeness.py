"""Similar: its request to a model value, its answer to a message."""

from __future__ import annotations

from typing import Any

from insignia_model import SearchResult, SimilarRequest
from insignia_model.errors import InvalidArgument
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import decode, encode
from insignia_server.config import ServerConfig


def similar_request(message: pb.SimilarRequest, config: ServerConfig) -> SimilarRequest:
    """The question; what is absent takes the default that the proto states."""
    return SimilarRequest(
        **_query(message, config),
        k=decode.best_cells(message, config),
        where=decode.conditions(message.where),
        group_by=tuple(message.group_by),
        hits=decode.hits(message),
        quantiles=message.quantiles,
        min_cells=message.min_cells if message.HasField("min_cells") else decode.DEFAULT_MIN_CELLS,
        exclude_study=message.exclude_study,
        strict=message.strict_genes,
        **decode.engine(message),
    )


def _query(message: pb.SimilarRequest, config: ServerConfig) -> dict[str, Any]:
    """The one of three that is set."""
    match message.WhichOneof("query"):
        case "cells":
            if not message.cells.cells:
                raise InvalidArgument("cells", "there is none")
            return {"cells": tuple(decode.cell_ids(message.cells, config))}
        case "centroid":
            return {"centroid": decode.conditions(message.centroid.where)}
        case "profile":
            decode.check_genes(message.profile.genes, config)
            return {"profile": decode.signature(message.profile, "profile")}
        case _:
            raise InvalidArgument("query", "it is required: cells, centroid or profile")


def similar_response(result: SearchResult) -> pb.SimilarResponse:
    """The answer."""
    return pb.SimilarResponse(result=encode.search_response(result))
