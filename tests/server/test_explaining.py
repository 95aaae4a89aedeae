"""Explain: what is asked reaches the engine, what it answers arrives, what is too much is refused."""

import grpc
import pytest

from insignia_model import Condition, Explanation, HitRule, SearchRequest, Signature
from insignia_model.errors import LimitExceeded
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import encode, explaining
from insignia_server.config import ServerConfig

from .conftest import CELLS, GENES, GROUPS, SAMPLES

SIGNATURE = pb.Signature(name="IFN", genes=["IFIT1", "G1P2"], weights=[1, -2])
EXPLANATION = Explanation(
    "sparse", "sum", "top:5", 400, 20, 1.75, 2.5, GENES, ("study",), CELLS, CELLS, GROUPS, SAMPLES, GROUPS,
    ("IFIT1 alone makes 61 % of it.", "Second."),
)  # fmt: skip


@pytest.fixture
def asked(engine):
    """What `run_explain` was called with; it answers EXPLANATION."""
    calls = []

    def run_explain(request, *, cancel=None, threads=None, max_rows=None):
        calls.append((request, threads, max_rows))
        if engine.error:
            raise engine.error
        return EXPLANATION

    engine.run_explain = run_explain
    return calls


def test_what_is_absent_takes_the_default_of_the_proto():
    request = explaining.explain_request(pb.ExplainRequest(signature=SIGNATURE), ServerConfig())
    signature = Signature({"IFIT1": 1.0, "G1P2": -2.0}, "IFN")
    assert request == SearchRequest(signature, k=20, group_by=())
    zero = explaining.explain_request(pb.ExplainRequest(signature=SIGNATURE, k=0), ServerConfig())
    assert zero.k == 0


def test_what_is_asked_reaches_the_engine_and_the_answer_arrives(serve, asked):
    where = pb.Condition(field="tissue", operator=pb.OPERATOR_IN, values=[pb.Value(text="blood")])
    request = pb.ExplainRequest(
        signature=SIGNATURE, k=3, where=[where], group_by=["study"], hits=pb.HitRule(top=5),
        aggregate=pb.AGGREGATE_SUM, min_cells=4, min_coverage=0.5,
    )  # fmt: skip
    answer = serve(threads=3, max_contributions=99).stub.Explain(request)
    wanted = SearchRequest(
        Signature({"IFIT1": 1.0, "G1P2": -2.0}, "IFN"), k=3, where=(Condition("tissue", "in", ("blood",)),),
        group_by=("study",), hits=HitRule.top(5), aggregate="sum", min_cells=4, min_coverage=0.5,
    )  # fmt: skip
    assert asked == [(wanted, 3, 99)]
    assert answer == explaining.explain_response(EXPLANATION)
    assert (answer.hits, answer.cutoff, answer.n_hits) == ("top:5", 1.75, 20)
    assert answer.aggregate == pb.AGGREGATE_SUM
    assert list(answer.sentences) == list(EXPLANATION.sentences)
    tables = (answer.cells, answer.cell_genes, answer.groups, answer.group_genes, answer.gene_summary)
    assert list(tables) == [encode.table(t) for t in (CELLS, CELLS, GROUPS, SAMPLES, GROUPS)]


@pytest.mark.parametrize(
    ("settings", "request_"),
    [
        ({"max_k": 5}, pb.ExplainRequest(signature=SIGNATURE, k=6)),
        ({"max_genes": 1}, pb.ExplainRequest(signature=SIGNATURE)),
    ],
)
def test_what_is_over_a_limit_never_reaches_the_engine(serve, asked, refused, settings, request_):
    stub = serve(**settings).stub
    code, info, _ = refused(lambda: stub.Explain(request_))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert asked == []


def test_a_refusal_of_the_engine_arrives_typed(serve, engine, asked, refused):
    engine.error = LimitExceeded("groups times genes", 12, 11, "group by fields with fewer values")
    stub = serve().stub
    code, info, message = refused(lambda: stub.Explain(pb.ExplainRequest(signature=SIGNATURE)))
    assert (code, info.metadata["limit"]) == (grpc.StatusCode.INVALID_ARGUMENT, "11")
    assert message == str(engine.error)
