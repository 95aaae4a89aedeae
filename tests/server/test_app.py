"""The running server: health, reflection, refresh, stop, address."""

import asyncio
import logging
import signal
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from insignia_model.errors import AtlasCorrupt
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_proto.v1.insignia_pb2_grpc import AtlasServiceStub
from insignia_server import app
from insignia_server.app import SERVICE
from insignia_server.config import ServerConfig
from insignia_server.errors import CannotListen

SEARCH = pb.SearchRequest(signature=pb.Signature(genes=["IFIT1"]))
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TIMEOUT_S = 10


@pytest.fixture
def health(served):
    return health_pb2_grpc.HealthStub(served.channel)


@pytest.mark.parametrize("service", ["", "insignia.v1.AtlasService"])
def test_a_running_server_says_that_it_serves(health, service):
    assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_the_health_of_another_service_is_unknown(health):
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_describes_every_method(served):
    database = ProtoReflectionDescriptorDatabase(served.channel)
    assert SERVICE.full_name in database.get_services()
    described = database.FindFileContainingSymbol(SERVICE.full_name)
    assert [m.name for m in described.service[0].method] == [m.name for m in SERVICE.methods]


def test_reflection_can_be_left_out(serve):
    with pytest.raises(grpc.RpcError) as caught:
        ProtoReflectionDescriptorDatabase(serve(reflection=False).channel).get_services()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_stopping_lets_a_running_search_end_tells_watchers_and_takes_no_more(serve, engine):
    engine.hold = True
    served = serve()
    watched = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
    assert next(watched).status == SERVING
    search = served.stub.Search.future(SEARCH)
    assert engine.running.acquire(timeout=TIMEOUT_S)
    stopping = served.stop_soon(60)
    assert next(watched).status == NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.Search(SEARCH)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not stopping.done()
    engine.release.set()
    assert search.result(TIMEOUT_S).n_cells == 400
    stopping.result(TIMEOUT_S)  # long before the grace is over, though the watcher still watches


def test_what_runs_after_the_grace_is_cancelled(serve, engine):
    engine.hold = True
    served = serve()
    search = served.stub.Search.future(SEARCH)
    assert engine.running.acquire(timeout=TIMEOUT_S)
    served.stop(0.05)
    assert engine.stopped.acquire(timeout=TIMEOUT_S)
    with pytest.raises(grpc.RpcError) as caught:
        search.result(TIMEOUT_S)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_an_idle_server_stops_at_once(serve):
    served = serve()
    served.stub.Search(SEARCH)
    started = time.monotonic()
    served.stop(60)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
async def test_a_signal_stops_the_server(engine, name):
    ready = asyncio.Event()
    addresses = []

    def tell(address):
        addresses.append(address)
        ready.set()

    serving = asyncio.create_task(app.serve(engine, ServerConfig(listen="127.0.0.1:0"), tell))
    await asyncio.wait_for(ready.wait(), TIMEOUT_S)
    async with grpc.aio.insecure_channel(addresses[0]) as channel:
        assert (await AtlasServiceStub(channel).Search(SEARCH)).n_cells == 400
        signal.raise_signal(getattr(signal, name))
        await asyncio.wait_for(serving, TIMEOUT_S)


def test_a_taken_address_is_a_clear_error(serve, served):
    with pytest.raises(CannotListen, match=f"{served.address}: the port is taken"):
        serve(listen=served.address)


def test_the_address_tells_the_port_that_was_taken(served):
    host, port = served.address.split(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


@pytest.mark.parametrize(("host", "warnings"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_an_address_that_others_can_reach_is_warned_of(serve, caplog, host, warnings):
    serve(listen=f"{host}:0")
    assert caplog.text.count("without encryption or log-in") == warnings


def test_a_newer_revision_is_looked_for_again_and_again(serve, engine):
    serve(refresh_s=0.01)
    for _ in range(3):
        engine.refreshed.clear()
        assert engine.refreshed.wait(TIMEOUT_S)


def test_a_revision_that_cannot_be_taken_up_is_logged_and_the_server_goes_on(
    serve, engine, monkeypatch, caplog
):
    attempts = threading.Semaphore(0)

    def refresh():
        attempts.release()
        raise AtlasCorrupt("meta.lmdb", "bad magic")

    monkeypatch.setattr(engine, "refresh", refresh)
    with caplog.at_level(logging.ERROR):
        served = serve(refresh_s=0.01)
        for _ in range(3):
            assert attempts.acquire(timeout=TIMEOUT_S)
    assert served.stub.Search(SEARCH).n_cells == 400
    assert "bad magic" in caplog.text
    assert caplog.text.count("no newer revision") == 1


def test_a_new_revision_is_told_to_the_log(serve, engine, monkeypatch, caplog):
    monkeypatch.setattr(engine, "refresh", lambda: True)
    with caplog.at_level(logging.INFO):
        serve(refresh_s=0.01)
        end = time.monotonic() + TIMEOUT_S
        while "revision 7: 2 studies, 400 cells" not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.002)


@pytest.mark.parametrize(("access_log", "level"), [(True, "INFO"), (False, "DEBUG")])
def test_every_request_is_one_line_of_the_access_log(serve, engine, caplog, access_log, level):
    with caplog.at_level(logging.DEBUG):
        served = serve(access_log=access_log)
        served.stub.Search(SEARCH)
        with pytest.raises(grpc.RpcError):
            served.stub.Search(pb.SearchRequest())
        assert engine.running.acquire(timeout=TIMEOUT_S)
        engine.hold = True
        call = served.stub.Search.future(SEARCH)
        assert engine.running.acquire(timeout=TIMEOUT_S)
        call.cancel()
        assert engine.stopped.acquire(timeout=TIMEOUT_S)
        served.stop()
    lines = [r for r in caplog.records if r.name == "insignia_server.access"]
    assert [r.levelname for r in lines] == [level] * 3
    ok, bad, gone = (r.getMessage() for r in lines)
    assert "Search OK" in ok
    assert "Search INVALID_ARGUMENT" in bad
    assert "Search CANCELLED" in gone
