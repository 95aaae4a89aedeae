"""insignia.v1.AtlasService: every method decodes, calls the engine, encodes, in a worker thread."""

from __future__ import annotations

from collections.abc import Iterator

from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import decode, encode, explaining, likeness
from insignia_server.config import ServerConfig
from insignia_server.engine import Engine
from insignia_server.rpc import Call


class AtlasService:
    """The methods of one atlas."""

    def __init__(self, engine: Engine, config: ServerConfig) -> None:
        self._engine = engine
        self._config = config

    def search(self, request: pb.SearchRequest, call: Call) -> pb.SearchResponse:
        """Best cells and hit statistics of every group."""
        question = decode.search_request(request, self._config)
        result = self._engine.run(
            question, cancel=call.cancel, threads=call.threads, max_groups=self._config.max_groups
        )
        return encode.search_response(result)

    def scores(self, request: pb.ScoresRequest, call: Call) -> Iterator[pb.ScoresResponse]:
        """Scores of all cells that pass the filter."""
        signature = decode.required_signature(request, self._config)
        stream = self._engine.iter_scores(
            signature,
            where=decode.conditions(request.where),
            aggregate=decode.aggregate(request.aggregate),
            cell_ids=request.cell_ids,
            min_coverage=request.min_coverage,
            strict=request.strict_genes,
            cancel=call.cancel,
        )
        yield from encode.scores_responses(stream, stream.genes)

    def screen(self, requests: Iterator[pb.ScreenRequest], call: Call) -> Iterator[pb.ScreenResponse]:
        """Groups of every signature that is sent."""
        question = decode.screen_request(next(requests, None))
        signatures = decode.screened(requests, self._config)
        most = self._config.max_message_bytes // 2  # the size of rows is an estimate
        stream = self._engine.run_screen(
            question,
            signatures,
            cancel=call.cancel,
            chunk_bytes=most,
            max_groups=self._config.max_groups,
        )
        yield encode.screen_plan(stream.plan)
        yield from map(encode.screen_chunk, stream)

    def similar(self, request: pb.SimilarRequest, call: Call) -> pb.SimilarResponse:
        """Cells that are most like chosen ones, and hit statistics of every group."""
        question = likeness.similar_request(request, self._config)
        result = self._engine.run_similar(
            question, cancel=call.cancel, threads=call.threads, max_groups=self._config.max_groups
        )
        return likeness.similar_response(result)

    def explain(self, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:
        """Contribution of each gene to the best cells and to every group."""
        question = explaining.explain_request(request, self._config)
        explanation = self._engine.run_explain(
            question, cancel=call.cancel, threads=call.threads, max_rows=self._config.max_contributions
        )
        return explaining.explain_response(explanation)

    def get_atlas(self, request: pb.GetAtlasRequest, call: Call) -> pb.GetAtlasResponse:
        """What the atlas holds."""
        return encode.atlas(self._engine.info())

    def list_studies(self, request: pb.ListStudiesRequest, call: Call) -> pb.ListStudiesResponse:
        """All studies, in tie order."""
        return pb.ListStudiesResponse(studies=map(encode.study, self._engine.studies()))

    def list_fields(self, request: pb.ListFieldsRequest, call: Call) -> pb.ListFieldsResponse:
        """Metadata fields over all studies."""
        fields = self._engine.fields(decode.max_values(request))
        return pb.ListFieldsResponse(fields=map(encode.field, fields))

    def resolve_genes(self, request: pb.ResolveGenesRequest, call: Call) -> pb.ResolveGenesResponse:
        """What each gene name means to this atlas."""
        report = self._engine.genes(decode.gene_names(request, self._config), strict=request.strict_genes)
        return pb.ResolveGenesResponse(genes=encode.gene_report(report))

    def get_cells(self, request: pb.GetCellsRequest, call: Call) -> pb.GetCellsResponse:
        """Metadata of cells, in the order asked."""
        return pb.GetCellsResponse(
            cells=encode.table(self._engine.cells(decode.cell_ids(request, self._config)))
        )
