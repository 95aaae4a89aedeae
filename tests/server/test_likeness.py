"""Similar: what is asked reaches the engine, what it answers arrives, what is too much is refused."""

from dataclasses import replace

import grpc
import pytest

from insignia_model import CellId, Condition, HitRule, SearchRequest, Signature, SimilarRequest, Table
from insignia_model.errors import EmptyProfile, EngineUnavailable, InvalidArgument
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import decode, encode, likeness
from insignia_server.config import ServerConfig

from .conftest import RESULT

CELLS = pb.QueryCells(cells=[pb.CellId(study="kang2018", cell_id="AAA")])
WHERE = pb.Condition(field="tissue", operator=pb.OPERATOR_IN, values=[pb.Value(text="blood")])
BLOOD = Condition("tissue", "in", ("blood",))


@pytest.fixture
def asked(engine):
    """What `run_similar` was called with; it works as `run` does, and answers the engine's result."""
    calls = []

    def run_similar(request, *, cancel=None, threads=None, max_groups=None):
        calls.append((request, threads))
        engine._work(cancel)
        return engine.result

    engine.run_similar = run_similar
    return calls


def decoded(**fields):
    return likeness.similar_request(pb.SimilarRequest(**fields), ServerConfig())


def test_what_is_absent_takes_the_default_of_the_proto():
    assert decoded(cells=CELLS) == SimilarRequest((CellId("kang2018", "AAA"),), group_by=())
    assert decoded(centroid=pb.Centroid()) == SimilarRequest(centroid=(), group_by=())
    profile = decoded(profile=pb.Signature(genes=["IFIT1"], weights=[2.5])).profile
    assert profile == Signature({"IFIT1": 2.5}, "profile")
    assert decoded(cells=CELLS, k=0).k == 0


def test_every_field_reaches_the_engine_and_the_answer_arrives(serve, asked):
    request = pb.SimilarRequest(
        centroid=pb.Centroid(where=[WHERE]), k=3, where=[WHERE], group_by=["study"], hits=pb.HitRule(top=5),
        quantiles=True, min_cells=4, exclude_study=True, strict_genes=True, engine=pb.ENGINE_SPARSE,
        recall_target=0.5, groups=True,
    )  # fmt: skip
    answer = serve(threads=3).stub.Similar(request)
    wanted = SimilarRequest(
        centroid=(BLOOD,), k=3, where=(BLOOD,), group_by=("study",), hits=HitRule.top(5), quantiles=True,
        min_cells=4, exclude_study=True, strict=True, engine="sparse", recall_target=0.5, groups=True,
    )  # fmt: skip
    assert asked == [(wanted, 3)]
    assert answer.result == encode.search_response(RESULT)


@pytest.mark.parametrize(
    ("settings", "request_", "reason"),
    [
        ({"max_k": 5}, pb.SimilarRequest(cells=CELLS, k=6), "LIMIT_EXCEEDED"),
        ({"max_k": 1}, pb.SimilarRequest(cells=pb.QueryCells(cells=[pb.CellId()] * 2)), "LIMIT_EXCEEDED"),
        ({"max_genes": 1}, pb.SimilarRequest(profile=pb.Signature(genes=["A", "B"])), "LIMIT_EXCEEDED"),
        ({}, pb.SimilarRequest(), "INVALID_ARGUMENT"),
        ({}, pb.SimilarRequest(cells=pb.QueryCells()), "INVALID_ARGUMENT"),
        ({}, pb.SimilarRequest(cells=CELLS, engine=9), "INVALID_ARGUMENT"),
        ({}, pb.SimilarRequest(cells=CELLS, recall_target=0), "INVALID_ARGUMENT"),
        ({}, pb.SimilarRequest(profile=pb.Signature(), exclude_study=True), "INVALID_SIGNATURE"),
        (
            {},
            pb.SimilarRequest(profile=pb.Signature(genes=["A"]), exclude_study=True),
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_what_is_malformed_or_over_a_limit_never_reaches_the_engine(
    serve, asked, refused, settings, request_, reason
):
    stub = serve(**settings).stub
    code, info, _ = refused(lambda: stub.Similar(request_))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert asked == []


@pytest.mark.parametrize(
    "error",
    [
        EngineUnavailable("faiss", "the atlas carries no FAISS index", "use engine=auto"),
        EmptyProfile("cells like a:b", "the cell has no attributions"),
    ],
)
def test_what_the_atlas_lacks_is_a_failed_precondition(serve, engine, asked, refused, error):
    engine.error = error
    stub = serve().stub
    code, info, message = refused(lambda: stub.Similar(pb.SimilarRequest(cells=CELLS)))
    assert (code, info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, error.reason)
    assert message == str(error)
    assert dict(info.metadata) == error.data


def test_similar_waits_in_the_lane_of_searches_and_stops_when_nobody_waits(serve, engine, asked):
    engine.hold = True
    served = serve(max_concurrent=1, max_queued=1)
    call = served.stub.Similar.future(pb.SimilarRequest(cells=CELLS))
    assert engine.running.acquire(timeout=10)
    assert served.server._searches.load == (1, 0)
    call.cancel()
    assert engine.stopped.acquire(timeout=10)


def test_the_engine_of_a_search_is_decoded_and_an_old_client_asks_for_the_default():
    signature = pb.Signature(genes=["IFIT1"])
    old = decode.search_request(pb.SearchRequest(signature=signature), ServerConfig())
    assert (old.engine, old.recall_target, old.groups) == ("auto", 0.99, None)
    message = pb.SearchRequest(
        signature=signature, engine=pb.ENGINE_FAISS, recall_target=0.9, groups=False, group_by=["study"]
    )
    assert decode.search_request(message, ServerConfig()) == SearchRequest(
        Signature.of(["IFIT1"]), engine="faiss", recall_target=0.9, groups=False
    )
    assert set(decode.ENGINES) == set(pb.Engine.values())
    with pytest.raises(InvalidArgument, match="engine"):
        decode.search_request(pb.SearchRequest(signature=signature, engine=77), ServerConfig())


def test_an_answer_that_is_not_exact_says_so_on_the_wire():
    found = replace(
        RESULT, engine="faiss", exact=False, n_candidates=300, expected_recall=0.985, n_hits=None,
        cutoff=None, group_table=Table({}), sample_table=Table({}),
    )  # fmt: skip
    message = pb.SearchResponse.FromString(encode.search_response(found).SerializeToString())
    assert (message.engine, message.exact, message.n_candidates) == ("faiss", False, 300)
    assert message.expected_recall == 0.985
    assert not message.HasField("n_hits")
    assert not message.HasField("cutoff")
    exact = encode.search_response(RESULT)
    assert not any(map(exact.HasField, ("exact", "n_candidates", "expected_recall")))
