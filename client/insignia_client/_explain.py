"""The call Explain: its message, and how its answer is read."""

from __future__ import annotations

from functools import partial

from insignia_client import _convert
from insignia_client._calls import Call
from insignia_client._tables import table
from insignia_model import Explanation, SearchRequest
from insignia_proto.v1 import insignia_pb2 as pb


def explain(request: SearchRequest) -> Call[Explanation]:
    """Contributions to the answer of a search."""
    return Call("Explain", explain_request(request), partial(explanation, request=request))


@_convert.sendable
def explain_request(request: SearchRequest) -> pb.ExplainRequest:
    """Message that asks to explain a search."""
    return pb.ExplainRequest(
        signature=_convert.signature(request.signature),
        k=request.k,
        where=map(_convert.condition, request.where),
        group_by=request.group_by,
        hits=_convert.hit_rule(request.hits),
        aggregate=_convert.AGGREGATE[request.aggregate],
        min_cells=request.min_cells,
        min_coverage=request.min_coverage,
        strict_genes=request.strict,
    )


def explanation(answer: pb.ExplainResponse, request: SearchRequest) -> Explanation:
    """Explanation of ``request``."""
    return Explanation(
        engine=answer.engine,
        aggregate=_convert.AGGREGATE_NAME[answer.aggregate],
        hits=answer.hits,
        n_cells=answer.n_cells,
        n_hits=answer.n_hits,
        cutoff=answer.cutoff if answer.HasField("cutoff") else None,
        elapsed_ms=answer.elapsed_ms,
        genes=_convert.gene_report(answer.genes),
        group_by=tuple(answer.group_by),
        cell_table=table(answer.cells),
        cell_gene_table=table(answer.cell_genes),
        group_table=table(answer.groups),
        gene_table=table(answer.group_genes),
        gene_summary_table=table(answer.gene_summary),
        sentences=tuple(answer.sentences),
        signature=request.signature.name,
        min_cells=request.min_cells,
    )
