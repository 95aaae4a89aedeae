"""Explain: its request to a model value, its answer to a message."""

from __future__ import annotations

from insignia_model import Explanation, SearchRequest
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import decode, encode
from insignia_server.config import ServerConfig

DEFAULT_K = 20


def explain_request(message: pb.ExplainRequest, config: ServerConfig) -> SearchRequest:
    """The search to be explained; what is absent takes the default that the proto states."""
    return SearchRequest(
        signature=decode.required_signature(message, config),
        k=decode.best_cells(message, config, DEFAULT_K),
        where=decode.conditions(message.where),
        group_by=tuple(message.group_by),
        hits=decode.hits(message),
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
