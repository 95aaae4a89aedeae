"""Work is stopped when nobody waits for it."""

import asyncio
import time

import grpc
import pytest

from insignia_proto.v1 import insignia_pb2 as pb
from insignia_proto.v1.insignia_pb2_grpc import AtlasServiceStub

SEARCH = pb.SearchRequest(signature=pb.Signature(genes=["IFIT1"]))
TIMEOUT_S = 10


def began(engine):
    return engine.running.acquire(timeout=TIMEOUT_S)


def stopped(engine):
    return engine.stopped.acquire(timeout=TIMEOUT_S)


@pytest.fixture
def busy(serve, engine):
    """A server of one search at a time, held by one that runs."""
    engine.hold = True
    served = serve(max_concurrent=1, max_queued=1)
    served.first = served.stub.Search.future(SEARCH)
    assert began(engine)
    return served


def test_a_call_that_the_client_cancels_stops_the_engine(busy, engine):
    busy.first.cancel()
    assert stopped(engine)


async def test_a_call_that_an_asyncio_client_cancels_stops_the_engine(serve, engine):
    engine.hold = True
    async with grpc.aio.insecure_channel(serve().address) as channel:
        call = AtlasServiceStub(channel).Search(SEARCH)
        assert await asyncio.to_thread(began, engine)
        call.cancel()
        assert await asyncio.to_thread(stopped, engine)


def test_a_client_that_disconnects_stops_the_engine(serve, engine):
    engine.hold = True
    channel = grpc.insecure_channel(serve().address)
    call = AtlasServiceStub(channel).Search.future(SEARCH)
    assert began(engine)
    channel.close()
    assert stopped(engine)
    assert call.done()


def test_a_deadline_stops_the_engine(serve, engine):
    engine.hold = True
    started = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        serve().stub.Search(SEARCH, timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert stopped(engine)
    assert time.monotonic() - started < 5


def test_a_cancelled_call_that_waits_is_never_run(busy, engine):
    waiting = busy.stub.Search.future(SEARCH)
    lane = busy.server._searches
    _until(lambda: lane.load == (1, 1))
    waiting.cancel()
    _until(lambda: lane.load == (1, 0))
    engine.release.set()
    assert busy.first.result(TIMEOUT_S)
    _until(lambda: lane.load == (0, 0))
    assert len(engine.asked) == 1


def test_a_call_whose_deadline_passes_while_it_waits_is_never_run(busy, engine):
    with pytest.raises(grpc.RpcError) as caught:
        busy.stub.Search(SEARCH, timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    _until(lambda: busy.server._searches.load == (1, 0))
    engine.release.set()
    assert busy.first.result(TIMEOUT_S)
    assert len(engine.asked) == 1


def test_a_full_queue_refuses_with_advice_and_the_rest_is_answered(busy, engine, refused):
    waiting = busy.stub.Search.future(SEARCH)
    _until(lambda: busy.server._searches.load == (1, 1))
    code, info, message = refused(lambda: busy.stub.Search(SEARCH))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (info.reason, dict(info.metadata)) == ("OVERLOADED", {"limit": "1"})
    assert "try again" in message
    engine.release.set()
    assert busy.first.result(TIMEOUT_S)
    assert waiting.result(TIMEOUT_S)


def test_what_the_atlas_holds_is_told_while_searches_wait(busy):
    assert busy.stub.GetAtlas(pb.GetAtlasRequest(), timeout=TIMEOUT_S).n_studies == 2


def test_a_search_works_again_after_one_was_cancelled(busy, engine):
    busy.first.cancel()
    assert stopped(engine)
    engine.hold = False
    assert busy.stub.Search(SEARCH, timeout=TIMEOUT_S).n_cells == 400


def _until(condition):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
