"""The call Similar: its message, and how its answer is read."""

from __future__ import annotations

from insignia_client import _convert
from insignia_client._calls import Call
from insignia_model import SearchResult
from insignia_model.similar import SimilarRequest
from insignia_proto.v1 import insignia_pb2 as pb


def similar(request: SimilarRequest) -> Call[SearchResult]:
    """Similar cells and hit statistics."""
    return Call(
        "Similar",
        similar_request(request),
        lambda answer: _convert.search_result(answer.result, request),
    )


@_convert.sendable
def similar_request(request: SimilarRequest) -> pb.SimilarRequest:
    """Message of a request."""
    message = pb.SimilarRequest(
        k=request.k,
        where=map(_convert.condition, request.where),
        group_by=request.group_by,
        hits=_convert.hit_rule(request.hits),
        quantiles=request.quantiles,
        min_cells=request.min_cells,
        exclude_study=request.exclude_study,
        strict_genes=request.strict,
        engine=_convert.ENGINE[request.engine],
        recall_target=request.recall_target,
        groups=request.groups,
    )
    if request.profile is not None:
        message.profile.CopyFrom(_convert.signature(request.profile))
    elif request.centroid is not None:
        message.centroid.where.extend(map(_convert.condition, request.centroid))
        message.centroid.SetInParent()
    else:
        message.cells.cells.extend(pb.CellId(study=s, cell_id=c) for s, c in request.cells)
    return message
