"""The stream of scores: chunks, back-pressure, cancellation."""

import time

import grpc
import numpy as np
import pytest

from insignia_model import Condition
from insignia_model.errors import AtlasCorrupt
from insignia_proto.v1 import insignia_pb2 as pb

SIGNATURE = pb.Signature(genes=["IFIT1", "NOSUCH"])
SCORES = pb.ScoresRequest(signature=SIGNATURE)
TIMEOUT_S = 10


def test_every_chunk_arrives_in_order(stub, engine, chunk):
    engine.chunks = [chunk(65_536), chunk(1, rows=[65_536]), chunk(3, study="zhao2021", rows=[0, 4, 5])]
    messages = list(stub.Scores(SCORES))
    assert [(m.study, len(m.floats.values)) for m in messages] == [
        ("kang2018", 65_536),
        ("kang2018", 1),
        ("zhao2021", 3),
    ]
    np.testing.assert_array_equal(messages[0].floats.values, np.arange(65_536))
    assert [m.HasField("genes") for m in messages] == [True, False, False]
    assert max(m.ByteSize() for m in messages) < 1 << 20


def test_what_is_asked_reaches_the_engine(stub, engine, chunk):
    engine.chunks = [chunk(2, names=True)]
    where = pb.Condition(field="tissue", operator=pb.OPERATOR_NOT_IN, values=[pb.Value(text="blood")])
    request = pb.ScoresRequest(
        signature=SIGNATURE,
        where=[where],
        aggregate=pb.AGGREGATE_SUM,
        cell_ids=True,
        min_coverage=0.25,
        strict_genes=True,
    )
    (message,) = stub.Scores(request)
    assert list(message.cell_ids) == ["CELL0", "CELL1"]
    signature, options = engine.asked[0]
    del options["cancel"]
    assert signature.genes == ("IFIT1", "NOSUCH")
    assert options == {
        "where": (Condition("tissue", "not in", ("blood",)),),
        "aggregate": "sum",
        "cell_ids": True,
        "min_coverage": 0.25,
        "strict": True,
    }


def test_a_filter_that_no_cell_passes_still_tells_about_the_genes(stub):
    (message,) = stub.Scores(SCORES)
    assert list(message.genes.missing) == ["NOSUCH"]
    assert len(message.floats.values) == 0


def test_an_error_in_the_middle_arrives_typed_after_what_was_sent(stub, engine, chunk):
    def broken():
        yield chunk(3)
        raise AtlasCorrupt("shards/zhao2021", "checksum differs")

    engine.chunks = broken()
    received = []
    with pytest.raises(grpc.RpcError) as caught:
        received.extend(stub.Scores(SCORES))
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


def test_a_reader_that_does_not_read_is_not_run_ahead_of(served, engine, chunk):
    scored = chunk(65_536)
    engine.chunks = (scored for _ in range(1000))
    call = served.stub.Scores(SCORES)
    next(call)
    _until(lambda: engine.pulled > 1)
    _steady(lambda: engine.pulled)
    assert engine.pulled < 200  # windows of HTTP/2 and sockets hold some
    call.cancel()
    assert engine.closed_streams.acquire(timeout=TIMEOUT_S)


def test_a_cancelled_stream_stops_the_engine_and_is_closed(stub, engine, chunk):
    engine.chunks = [chunk(3)] * 3
    engine.hold = True
    call = stub.Scores(SCORES)
    assert engine.running.acquire(timeout=TIMEOUT_S)
    call.cancel()
    assert engine.stopped.acquire(timeout=TIMEOUT_S)
    assert engine.closed_streams.acquire(timeout=TIMEOUT_S)


def test_a_stream_that_is_read_to_its_end_is_closed(stub, engine, chunk):
    engine.chunks = [chunk(3)]
    assert len(list(stub.Scores(SCORES))) == 1
    assert engine.closed_streams.acquire(timeout=TIMEOUT_S)


def test_a_slow_reader_does_not_keep_searches_from_running(serve, engine, chunk):
    scored = chunk(65_536)
    engine.chunks = (scored for _ in range(1000))
    served = serve(max_concurrent=1)
    call = served.stub.Scores(SCORES)
    next(call)
    search = pb.SearchRequest(signature=SIGNATURE)
    assert served.stub.Search(search, timeout=TIMEOUT_S).n_cells == 400
    call.cancel()


def test_more_streams_than_allowed_are_refused_and_a_closed_one_makes_room(serve, engine, chunk, refused):
    scored = chunk(65_536)
    engine.chunks = (scored for _ in range(1000))
    served = serve(max_streams=1)
    call = served.stub.Scores(SCORES)
    next(call)
    code, info, text = refused(lambda: list(served.stub.Scores(SCORES)))
    assert (code, info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert "1 streams of scores are open" in text
    call.cancel()
    assert engine.closed_streams.acquire(timeout=TIMEOUT_S)
    engine.chunks = [chunk(2)]
    assert len(list(served.stub.Scores(SCORES))) == 1


def test_an_open_stream_is_not_refused_because_searches_came(serve, engine, chunk):
    engine.chunks = [chunk(3)] * 3
    served = serve(max_concurrent=1, max_queued=0)
    call = served.stub.Scores(SCORES)
    next(call)
    engine.hold = True
    search = served.stub.Search.future(pb.SearchRequest(signature=SIGNATURE))
    engine.release.set()
    assert len(list(call)) == 2
    search.exception(TIMEOUT_S)


def _until(condition):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def _steady(value):
    """Wait until a value stays as it is for 0.1 s."""
    seen, since = value(), time.monotonic()
    while time.monotonic() - since < 0.1:
        time.sleep(0.01)
        if value() != seen:
            seen, since = value(), time.monotonic()
