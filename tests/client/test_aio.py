"""The asyncio client: the same answers, and cancellation that reaches the server."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from insignia_client import AsyncClient, Client
from insignia_client.errors import ClientClosed, DeadlineExceeded, IncompatibleServer
from insignia_model import Column, Table
from insignia_model.errors import NoGeneResolved


async def test_both_clients_answer_alike(server: Any) -> None:
    async with AsyncClient(server.target) as client:
        found = await client.search(["CD14", "nope"], k=7, group_by="tissue")
        listed = (
            await client.studies(),
            await client.fields(1),
            await client.info(),
            await client.resolve_genes(["LYZ"]),
        )
        cells = await client.cells(["kang:a"])
        scores = await client.scores(["CD14"], cell_ids=True)
        chunks = [chunk async for chunk in client.iter_scores(["CD14"])]
        assert "33,242 cells" in repr(client)
    with Client(server.target) as same:
        expected = same.search(["CD14", "nope"], k=7, group_by="tissue")
        assert found.to_dict() | {"elapsed_ms": 0} == expected.to_dict() | {"elapsed_ms": 0}
        assert listed == (same.studies(), same.fields(1), same.info(), same.resolve_genes(["LYZ"]))
        assert list(cells.rows()) == list(same.cells(["kang:a"]).rows())
        assert scores.values.tolist() == same.scores(["CD14"]).values.tolist()
    assert [chunk.study for chunk in chunks] == ["kang", "baron"]


async def test_many_searches_run_at_once(server: Any) -> None:
    async with AsyncClient(server.target) as client:
        results = await asyncio.gather(*(client.search(["CD14"], k=k) for k in range(20)))
    assert [len(result.cell_table) for result in results] == list(range(20))


async def test_errors_are_typed_and_point_to_their_cause(server: Any) -> None:
    async with AsyncClient(server.target) as client:
        with pytest.raises(NoGeneResolved) as raised:
            await client.search(["x"])
        assert isinstance(raised.value.__cause__, grpc.aio.AioRpcError)
        server.service.failures = ["stuck"]
        with pytest.raises(DeadlineExceeded):
            await client.studies(timeout_s=0.1)
        server.service.failures = [NoGeneResolved({"y": "not in the atlas"})]
        with pytest.raises(NoGeneResolved):
            await client.scores(["y"])
        server.service.atlas.cells = lambda ids: Table({"a": Column.numbers([1]), "b": Column.numbers([])})
        with pytest.raises(IncompatibleServer):
            await client.cells(["kang:a"])


async def test_an_absent_server_is_asked_again(server: Any) -> None:
    server.service.failures = [(grpc.StatusCode.UNAVAILABLE, "a moment")] * 2
    async with AsyncClient(server.target) as client:
        assert (await client.info()).n_studies == 2
    assert len(server.service.requests) == 3


async def test_leaving_a_score_stream_stops_the_server(server: Any) -> None:
    server.service.scores_forever = True
    async with AsyncClient(server.target) as client:
        async with aclosing(client.iter_scores(["CD14"])) as chunks:
            async for chunk in chunks:
                assert chunk.study == "kang"
                break
        assert await asyncio.to_thread(server.service.stream_ended.wait, 2)


async def test_a_cancelled_task_stops_the_server(server: Any) -> None:
    server.service.scores_forever = True
    async with AsyncClient(server.target) as client:
        task = asyncio.create_task(client.scores(["CD14"]))
        while not server.service.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.service.stream_ended.wait, 2)


async def test_a_closed_client_says_so(server: Any) -> None:
    client = AsyncClient(server.target)
    await client.info()
    await client.close()
    await client.close()
    with pytest.raises(ClientClosed):
        await client.info()


def test_a_client_is_of_one_event_loop(server: Any) -> None:
    client = AsyncClient(server.target)
    assert asyncio.run(client.info()).n_studies == 2
    with pytest.raises(RuntimeError, match="belongs to another event loop; make one in each"):
        asyncio.run(client.info())
