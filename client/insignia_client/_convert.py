"""Values of `insignia_model` to messages of `insignia.v1`, and messages back to values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from insignia_client._tables import DOUBLE, FLOAT, Malformed, array, packed, table
from insignia_model import (
    AtlasInfo,
    CellId,
    Condition,
    FieldInfo,
    GeneReport,
    HitRule,
    ScoreChunk,
    ScreenChunk,
    ScreenPlan,
    ScreenRequest,
    SearchRequest,
    SearchResult,
    Signature,
    SimilarRequest,
    SkippedSignature,
    StudyInfo,
)
from insignia_model.condition import Value
from insignia_model.errors import InsigniaError, InvalidArgument
from insignia_proto.v1 import insignia_pb2 as pb

AGGREGATE = {"mean": pb.AGGREGATE_MEAN, "sum": pb.AGGREGATE_SUM}
AGGREGATE_NAME = {pb.AGGREGATE_UNSPECIFIED: "mean"} | {code: name for name, code in AGGREGATE.items()}
ENGINE = {"auto": pb.ENGINE_AUTO, "sparse": pb.ENGINE_SPARSE, "faiss": pb.ENGINE_FAISS}
#: Of names that are not exact.
MATCH_NAME: dict[int, str] = {
    pb.GENE_MATCH_CASE: "case",
    pb.GENE_MATCH_PREVIOUS: "previous",
    pb.GENE_MATCH_ALIAS: "alias",
    pb.GENE_MATCH_ENSEMBL: "ensembl",
}
OPERATOR = {
    "in": pb.OPERATOR_IN,
    "not in": pb.OPERATOR_NOT_IN,
    "<": pb.OPERATOR_LESS,
    "<=": pb.OPERATOR_LESS_EQUAL,
    ">": pb.OPERATOR_GREATER,
    ">=": pb.OPERATOR_GREATER_EQUAL,
    "missing": pb.OPERATOR_MISSING,
    "not missing": pb.OPERATOR_NOT_MISSING,
}


P = ParamSpec("P")
M = TypeVar("M")


def sendable(make: Callable[P, M]) -> Callable[P, M]:
    """As ``make``, with `InvalidArgument` for what a message cannot hold: large numbers, broken text."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> M:
        try:
            return make(*args, **kwargs)
        except InsigniaError:
            raise
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidArgument(
                "request",
                f"it cannot be sent ({error}); give smaller numbers, and names that are Unicode text",
            ) from error

    return made


# --- questions -------------------------------------------------------------------------------------


@sendable
def search_request(request: SearchRequest) -> pb.SearchRequest:
    """Message of a search."""
    return pb.SearchRequest(
        signature=signature(request.signature),
        k=request.k,
        where=map(condition, request.where),
        group_by=request.group_by,
        hits=hit_rule(request.hits),
        aggregate=AGGREGATE[request.aggregate],
        quantiles=request.quantiles,
        min_cells=request.min_cells,
        min_coverage=request.min_coverage,
        contrasts=[
            pb.Contrast(field=c.field, value=c.value, reference=c.reference) for c in request.contrasts
        ],
        compare=request.compare,
        min_samples=request.min_samples,
        strict_genes=request.strict,
        null=request.null,
        engine=ENGINE[request.engine],
        recall_target=request.recall_target,
        groups=request.groups,
    )


@sendable
def scores_request(request: SearchRequest, cell_ids: bool) -> pb.ScoresRequest:
    """Message that asks for all scores: of ``request`` the parts that scores depend on."""
    return pb.ScoresRequest(
        signature=signature(request.signature),
        where=map(condition, request.where),
        aggregate=AGGREGATE[request.aggregate],
        cell_ids=cell_ids,
        min_coverage=request.min_coverage,
        strict_genes=request.strict,
    )


@sendable
def screen_question(request: ScreenRequest) -> pb.ScreenRequest:
    """First message of a screen."""
    return pb.ScreenRequest(
        question=pb.ScreenQuestion(
            where=map(condition, request.where),
            group_by=request.group_by,
            hits=None if request.hits is None else hit_rule(request.hits),
            means_only=request.hits is None,
            aggregate=AGGREGATE[request.aggregate],
            min_cells=request.min_cells,
            strict_genes=request.strict,
            null=request.null,
            n_leading=request.n_leading,
        )
    )


@sendable
def screen_signatures(values: Iterable[Signature | SkippedSignature]) -> pb.ScreenRequest:
    """A further message of a screen."""
    return pb.ScreenRequest(signatures=pb.ScreenSignatures(signatures=map(_screened, values)))


def _screened(value: Signature | SkippedSignature) -> pb.ScreenSignature:
    if isinstance(value, SkippedSignature):
        return pb.ScreenSignature(signature=pb.Signature(name=value.name), skipped=value.reason)
    return pb.ScreenSignature(signature=signature(value))


def signature(value: Signature) -> pb.Signature:
    """Message of a signature; weights are left out where all are 1."""
    weights = value.weights.values()
    return pb.Signature(
        name=value.name, genes=value.genes, weights=() if all(w == 1 for w in weights) else weights
    )


def condition(value: Condition) -> pb.Condition:
    """Message of a condition."""
    return pb.Condition(
        field=value.field, operator=OPERATOR[value.op], values=[_field_value(v) for v in value.values]
    )


def _field_value(value: Value) -> pb.Value:
    if isinstance(value, bool):  # before int, whose subclass it is
        return pb.Value(boolean=value)
    if isinstance(value, int):
        return pb.Value(integer=value)
    return pb.Value(number=value) if isinstance(value, float) else pb.Value(text=value)


def hit_rule(value: HitRule) -> pb.HitRule:
    """Message of a hit rule: the oneof's names are the rule's kinds."""
    number: Any = int(value.value) if value.kind == "top" else value.value
    return pb.HitRule(**{value.kind: number})


@sendable
def cells_request(ids: Iterable[CellId]) -> pb.GetCellsRequest:
    """Message that asks for the metadata of cells."""
    return pb.GetCellsRequest(cells=[pb.CellId(study=study, cell_id=cell_id) for study, cell_id in ids])


# --- answers ---------------------------------------------------------------------------------------


def search_result(answer: pb.SearchResponse, request: SearchRequest | SimilarRequest) -> SearchResult:
    """Result of ``request``."""
    exact = answer.exact if answer.HasField("exact") else True
    return SearchResult(
        engine=answer.engine,
        aggregate=AGGREGATE_NAME[answer.aggregate],
        hits=answer.hits,
        n_cells=answer.n_cells,
        n_hits=answer.n_hits if exact or answer.HasField("n_hits") else None,
        cutoff=answer.cutoff if answer.HasField("cutoff") else None,
        elapsed_ms=answer.elapsed_ms,
        genes=gene_report(answer.genes),
        group_by=tuple(answer.group_by),
        cell_table=table(answer.cells),
        group_table=table(answer.groups),
        sample_table=table(answer.samples),
        signature=request.name,
        min_cells=request.min_cells,
        test_table=table(answer.tests),
        unsigned_atlas=answer.unsigned_atlas,
        negative_weights=request.has_negative,
        exact=exact,
        n_candidates=answer.n_candidates if answer.HasField("n_candidates") else None,
        expected_recall=answer.expected_recall if answer.HasField("expected_recall") else 1.0,
    )


def gene_report(message: pb.GeneReport) -> GeneReport:
    """What became of the genes."""
    if len(message.asked) != len(message.used):
        raise Malformed(f"{len(message.asked)} gene names but {len(message.used)} symbols")
    if len(message.matches) not in (0, len(message.asked)):
        raise Malformed(f"{len(message.asked)} gene names but {len(message.matches)} ways they were found")
    if len(message.studies) != len(message.n_genes_measured):
        raise Malformed(f"{len(message.studies)} studies but {len(message.n_genes_measured)} counts of genes")
    matches = zip(message.asked, message.matches, strict=False)
    return GeneReport(
        resolved=dict(zip(message.asked, message.used, strict=True)),
        missing=tuple(message.missing),
        inexact={name: MATCH_NAME[how] for name, how in matches if how in MATCH_NAME},
        ambiguous=_named_genes(message.ambiguous),
        suggestions=_named_genes(message.suggestions),
        duplicates=_named_genes(message.duplicates),
        weight_coverage=message.weight_coverage if message.HasField("weight_coverage") else 1.0,
        n_genes_measured=dict(zip(message.studies, message.n_genes_measured, strict=True)),
    )


def _named_genes(messages: Iterable[pb.NamedGenes]) -> dict[str, tuple[str, ...]]:
    return {message.name: tuple(message.genes) for message in messages}


def score_chunk(message: pb.ScoresResponse) -> ScoreChunk:
    """Scores of a run of cells."""
    kind = message.WhichOneof("scores")
    if kind is None:
        raise Malformed("a message of scores without scores")
    values = getattr(message, kind)
    scores = packed(values, values.values, FLOAT if kind == "floats" else DOUBLE)
    if message.rows:
        rows = array(message.rows, np.int64)
    else:
        rows = np.arange(message.first_row, message.first_row + len(scores), dtype=np.int64)
    cell_ids = tuple(message.cell_ids)
    if len(rows) != len(scores) or len(cell_ids) not in (0, len(scores)):
        raise Malformed(f"{len(scores)} scores with {len(rows)} rows and {len(cell_ids)} cell ids")
    return ScoreChunk(message.study, rows, scores, cell_ids)


def screen_plan(message: pb.ScreenResponse) -> ScreenPlan:
    """How the screen is done."""
    plan = message.plan
    return ScreenPlan(plan.n_cells, plan.n_per_batch, plan.memory_bytes)


def screen_chunk(message: pb.ScreenResponse) -> ScreenChunk:
    """Rows of a screen."""
    return ScreenChunk(message.n_signatures, table(message.rows))


def atlas_info(answer: pb.GetAtlasResponse) -> AtlasInfo:
    """What the atlas holds."""
    return AtlasInfo(
        format_version=answer.format_version,
        revision=answer.revision,
        n_studies=answer.n_studies,
        n_samples=answer.n_samples,
        n_cells=answer.n_cells,
        n_genes=answer.n_genes,
        n_postings=answer.n_postings,
        size_bytes=answer.size_bytes,
        value_dtype=answer.value_dtype,
        signed=answer.signed,
        engines=tuple(answer.engines),
        faiss=answer.faiss,
        digest=answer.digest,
        device=answer.device,
        n_cells_on_device=answer.n_cells_on_device,
    )


def studies(answer: pb.ListStudiesResponse) -> list[StudyInfo]:
    """Studies in tie order."""
    return [
        StudyInfo(
            study=s.study,
            n_cells=s.n_cells,
            n_samples=s.n_samples,
            n_genes_measured=s.n_genes_measured,
            n_postings=s.n_postings,
            size_bytes=s.size_bytes,
            revision=s.revision,
            source=s.source,
            signed=s.signed,
            recipe=s.recipe,
            faiss=s.faiss,
            faiss_kept=s.faiss_kept,
        )
        for s in answer.studies
    ]


def fields(answer: pb.ListFieldsResponse) -> list[FieldInfo]:
    """Metadata fields over all studies."""
    return [
        FieldInfo(
            field=f.field,
            kind=f.kind,
            n_studies=f.n_studies,
            n_cells=f.n_cells,
            n_values=f.n_values,
            values=tuple((v.value, v.n_cells) for v in f.values),
            minimum=f.minimum if f.HasField("minimum") else None,
            maximum=f.maximum if f.HasField("maximum") else None,
        )
        for f in answer.fields
    ]
