"""Explain: its request to a model value, its answer to a message."""

from __future__ import annotations

from insignia_model import Explanation, HitRule, SearchRequest
from insignia_model.errors import LimitExceeded
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import decode, encode
from insignia_server.config import ServerConfig

DEFAULT_K = 20


def explain_request(message: pb.ExplainRequest, config: ServerConfig) -> SearchRequest:
    """The search to be explained; what is absent takes the default that the proto states."""
    k = message.k if message.HasField("k") else DEFAULT_K
    if k > config.max_k:
        raise LimitExceeded("k", k, config.max_k, "ask for fewer cells")
    return SearchRequest(
        signature=decode.required_signature(message, config),
        k=k,
        where=decode.conditions(message.where),
        group_by=tuple(message.group_by),
        hits=decode.hit_rule(message.hits) if message.HasField("hits") else HitRule(),
        aggregate=decode.aggregate(message.aggregate),
        min_cells=message.min_cells if message.HasField("min_cells") else decode.DEFAULT_MIN_CELLS,
        min_coverage=message.min_coverage,
        strict=message.strict_genes,
    )


def explain_response(explanation: Explanation) -> pb.ExplainResponse:
    """The answer of Explain."""
    return pb.ExplainResponse(
        engine=explanation.engine,
        aggregate=encode.AGGREGATES[explanation.aggregate],
        hits=explanation.hits,
        n_cells=explanation.n_cells,
        n_hits=explanation.n_hits,
        cutoff=explanation.cutoff,
        elapsed_ms=explanation.elapsed_ms,
        genes=encode.gene_report(explanation.genes),
        group_by=explanation.group_by,
        cells=encode.table(explanation.cell_table),
        cell_genes=encode.table(explanation.cell_gene_table),
        groups=encode.table(explanation.group_table),
        group_genes=encode.table(explanation.gene_table),
        gene_summary=encode.table(explanation.gene_summary_table),
        sentences=explanation.sentences,
    )
