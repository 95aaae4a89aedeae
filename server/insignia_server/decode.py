"""Messages to model values. Every malformed request is a `RequestError` that names the argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from insignia_model import (
    CellId,
    Condition,
    Contrast,
    HitRule,
    ScreenRequest,
    SearchRequest,
    Signature,
    SkippedSignature,
)
from insignia_model.condition import Value
from insignia_model.errors import InvalidArgument, InvalidSignature, LimitExceeded, RequestError
from insignia_model.signature import repeated
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server.config import ServerConfig

AGGREGATES = {
    pb.AGGREGATE_UNSPECIFIED: "mean",
    pb.AGGREGATE_MEAN: "mean",
    pb.AGGREGATE_SUM: "sum",
}
OPERATORS = {
    pb.OPERATOR_IN: "in",
    pb.OPERATOR_NOT_IN: "not in",
    pb.OPERATOR_LESS: "<",
    pb.OPERATOR_LESS_EQUAL: "<=",
    pb.OPERATOR_GREATER: ">",
    pb.OPERATOR_GREATER_EQUAL: ">=",
    pb.OPERATOR_MISSING: "missing",
    pb.OPERATOR_NOT_MISSING: "not missing",
}
ENGINES: dict[int, str] = {
    pb.ENGINE_UNSPECIFIED: "auto",
    pb.ENGINE_AUTO: "auto",
    pb.ENGINE_SPARSE: "sparse",
    pb.ENGINE_FAISS: "faiss",
}
DEFAULT_K = 100
DEFAULT_RECALL = 0.99
DEFAULT_MIN_CELLS = 10
DEFAULT_MIN_SAMPLES = 3
DEFAULT_MAX_VALUES = 20
#: Each takes a pass over the scores if its field is a new one.
MOST_CONTRASTS = 100
#: Each takes a pass over the metadata of every study.
MOST_CONDITIONS = 1_000
#: Of the name of a gene. Those that nobody knows are remembered, so as not to be looked for again.
MOST_NAME_CHARACTERS = 1_000


def search_request(message: pb.SearchRequest, config: ServerConfig) -> SearchRequest:
    """The question of Search; what is absent takes the default that the proto states."""
    return SearchRequest(
        signature=required_signature(message, config),
        k=best_cells(message, config),
        where=conditions(message.where),
        group_by=tuple(message.group_by),
        hits=hits(message),
        aggregate=aggregate(message.aggregate),
        quantiles=message.quantiles,
        min_cells=message.min_cells if message.HasField("min_cells") else DEFAULT_MIN_CELLS,
        min_coverage=message.min_coverage,
        contrasts=contrasts(message.contrasts),
        compare=message.compare,
        min_samples=message.min_samples if message.HasField("min_samples") else DEFAULT_MIN_SAMPLES,
        strict=message.strict_genes,
        null=message.null,
        **engine(message),
    )


def screen_request(message: pb.ScreenRequest | None) -> ScreenRequest:
    """The question of Screen, its first message."""
    if message is None or not message.HasField("question"):
        raise InvalidArgument("question", "a screen begins with its question")
    question = message.question
    if question.means_only and question.HasField("hits"):
        raise InvalidArgument("hits", "means_only has none")
    return ScreenRequest(
        where=conditions(question.where),
        group_by=tuple(question.group_by),
        hits=None if question.means_only else hits(question),
        aggregate=aggregate(question.aggregate),
        min_cells=question.min_cells if question.HasField("min_cells") else DEFAULT_MIN_CELLS,
        strict=question.strict_genes,
        null=question.null,
        n_leading=question.n_leading,
    )


def screened(
    messages: Iterable[pb.ScreenRequest], config: ServerConfig
) -> Iterator[Signature | SkippedSignature]:
    """Signatures of Screen as they come; one that cannot be used is skipped."""
    for message in messages:
        if not message.HasField("signatures"):
            raise InvalidArgument("question", "a screen has one, its first message")
        for item in message.signatures.signatures:
            yield _screened(item, config)


def _screened(item: pb.ScreenSignature, config: ServerConfig) -> Signature | SkippedSignature:
    if item.skipped:
        return SkippedSignature(item.signature.name, item.skipped)
    try:
        check_genes(item.signature.genes, config)
        return replace(signature(item.signature), name=item.signature.name)  # empty too
    except RequestError as error:
        return SkippedSignature(item.signature.name, str(error))


def best_cells(
    message: pb.SearchRequest | pb.SimilarRequest | pb.ExplainRequest,
    config: ServerConfig,
    default: int = DEFAULT_K,
) -> int:
    """How many best cells to return."""
    k = message.k if message.HasField("k") else default
    if k > config.max_k:
        raise LimitExceeded("k", k, config.max_k, "ask for fewer cells, or stream all scores with Scores")
    return k


def engine(message: pb.SearchRequest | pb.SimilarRequest) -> dict[str, Any]:
    """Options engine, recall_target and groups of a request."""
    if message.engine not in ENGINES:
        raise InvalidArgument("engine", f"{message.engine} is not an Engine of insignia.v1")
    return {
        "engine": ENGINES[message.engine],
        "recall_target": message.recall_target if message.HasField("recall_target") else DEFAULT_RECALL,
        "groups": message.groups if message.HasField("groups") else None,
    }


def hits(
    message: pb.SearchRequest | pb.SimilarRequest | pb.ExplainRequest | pb.ScreenQuestion,
) -> HitRule:
    """The hit rule of a request."""
    return hit_rule(message.hits) if message.HasField("hits") else HitRule()


def required_signature(
    message: pb.SearchRequest | pb.ScoresRequest | pb.ExplainRequest, config: ServerConfig
) -> Signature:
    """The signature of a request that must have one."""
    if not message.HasField("signature"):
        raise InvalidArgument("signature", "it is required")
    check_genes(message.signature.genes, config)
    return signature(message.signature)


def signature(message: pb.Signature, nameless: str = "signature") -> Signature:
    """Weights by gene. A repeated gene counts once; with weights it is ambiguous, so an error."""
    name = message.name or nameless
    genes = list(message.genes)
    if not message.weights:
        return Signature.of(genes, name)
    if len(message.weights) != len(genes):
        raise InvalidSignature(name, f"{len(message.weights)} weights for {len(genes)} genes")
    weighted = Signature.of(dict(zip(genes, message.weights, strict=True)), name)
    if len(weighted) != len(genes):
        raise InvalidSignature(name, f"gene {repeated(g.strip() for g in genes)[0]!r} has two weights")
    return weighted


def conditions(messages: Sequence[pb.Condition]) -> tuple[Condition, ...]:
    """The filter."""
    if len(messages) > MOST_CONDITIONS:
        advice = "one condition takes any number of values"
        raise LimitExceeded("conditions", len(messages), MOST_CONDITIONS, advice)
    return tuple(_condition(message) for message in messages)


def contrasts(messages: Sequence[pb.Contrast]) -> tuple[Contrast, ...]:
    """The contrasts."""
    if len(messages) > MOST_CONTRASTS:
        raise LimitExceeded("contrasts", len(messages), MOST_CONTRASTS, "ask in several requests")
    return tuple(Contrast(m.field, m.value, m.reference) for m in messages)


def aggregate(value: int) -> str:
    """``mean`` or ``sum``."""
    if value not in AGGREGATES:
        raise InvalidArgument("aggregate", f"{value} is not an Aggregate of insignia.v1")
    return AGGREGATES[value]  # type: ignore[index]  # an enum value is an int at run time


def hit_rule(message: pb.HitRule) -> HitRule:
    """The hit rule that is set."""
    kind = message.WhichOneof("rule")
    if kind is None:
        raise InvalidArgument("hits", "no rule is set; leave hits out for percentile 95")
    return HitRule(kind, float(getattr(message, kind)))


def cell_ids(message: pb.GetCellsRequest | pb.QueryCells, config: ServerConfig) -> list[CellId]:
    """Identities of the cells asked for."""
    if len(message.cells) > config.max_k:
        raise LimitExceeded("cells", len(message.cells), config.max_k, "ask in several requests")
    return [CellId(cell.study, cell.cell_id) for cell in message.cells]


def gene_names(message: pb.ResolveGenesRequest, config: ServerConfig) -> list[str]:
    """Names to resolve."""
    check_genes(message.genes, config)
    return list(message.genes)


def max_values(message: pb.ListFieldsRequest) -> int:
    """How many values to show per field."""
    return message.max_values if message.HasField("max_values") else DEFAULT_MAX_VALUES


def check_genes(names: Sequence[str], config: ServerConfig) -> None:
    """Refuse more genes than the server takes, and names that can be none."""
    if len(names) > config.max_genes:
        raise LimitExceeded("genes", len(names), config.max_genes, "ask with fewer genes")
    longest = max(map(len, names), default=0)
    if longest > MOST_NAME_CHARACTERS:
        advice = "give every gene as a name of its own"
        raise LimitExceeded("characters of a gene's name", longest, MOST_NAME_CHARACTERS, advice)


def _condition(message: pb.Condition) -> Condition:
    where = f"where {message.field!r}"
    if message.operator not in OPERATORS:
        problem = (
            "is required" if message.operator == pb.OPERATOR_UNSPECIFIED else "is not one of insignia.v1"
        )
        raise InvalidArgument(where, f"operator {message.operator} {problem}")
    values = tuple(_value(value, where) for value in message.values)
    return Condition(message.field, OPERATORS[message.operator], values)


def _value(message: pb.Value, where: str) -> Value:
    kind = message.WhichOneof("value")
    if kind is None:
        raise InvalidArgument(where, "a value is empty; ask for cells without a value by OPERATOR_MISSING")
    value: Value = getattr(message, kind)
    return value
