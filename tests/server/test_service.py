from dataclasses import replace

import grpc
import numpy as np
import pytest

from insignia_model import CellId, Column, SearchRequest, Signature, Table
from insignia_model.errors import UnknownField
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_proto.v1.insignia_pb2_grpc import AtlasServiceStub
from insignia_server import encode
from insignia_server.app import SERVICE, Server
from insignia_server.config import ServerConfig

SIGNATURE = pb.Signature(name="IFN", genes=["IFIT1", "G1P2", "NOSUCH"])
SEARCH = pb.SearchRequest(signature=SIGNATURE)


def without_time(answer):
    answer.elapsed_ms = 0
    return answer


def test_search_answers_what_the_engine_found(stub, engine):
    answer = stub.Search(pb.SearchRequest(signature=SIGNATURE, k=3, group_by=["study"]))
    assert answer == encode.search_response(engine.result)
    (asked,) = engine.asked
    assert asked == SearchRequest(Signature.of(["IFIT1", "G1P2", "NOSUCH"], "IFN"), k=3, group_by=("study",))


def test_get_atlas_answers_what_the_atlas_holds(stub, engine):
    assert stub.GetAtlas(pb.GetAtlasRequest()) == encode.atlas(engine.info())


def test_list_studies_answers_all_in_order(stub):
    assert [s.study for s in stub.ListStudies(pb.ListStudiesRequest()).studies] == ["kang2018", "zhao2021"]


def test_list_fields_answers_all_with_their_commonest_values(stub, engine):
    tissue, age = stub.ListFields(pb.ListFieldsRequest()).fields
    assert [(v.value, v.n_cells) for v in tissue.values] == [("blood", 300), ("lung", 90)]
    assert (age.minimum, age.maximum) == (20, 80)
    stub.ListFields(pb.ListFieldsRequest(max_values=0))
    assert engine.asked == [20, 0]


def test_resolve_genes_answers_for_every_name(stub, engine):
    genes = stub.ResolveGenes(pb.ResolveGenesRequest(genes=["IFIT1", "G1P2", "NOSUCH"])).genes
    assert (list(genes.asked), list(genes.used)) == (["IFIT1", "G1P2"], ["IFIT1", "ISG15"])
    assert list(genes.missing) == ["NOSUCH"]
    stub.ResolveGenes(pb.ResolveGenesRequest(genes=["IFIT1"], strict_genes=True))
    assert engine.asked == [(("IFIT1", "G1P2", "NOSUCH"), False), (("IFIT1",), True)]


def test_get_cells_answers_in_the_order_asked(stub):
    cells = [pb.CellId(study="kang2018", cell_id="AAA")]
    names = [c.name for c in stub.GetCells(pb.GetCellsRequest(cells=cells)).cells.columns]
    assert names == ["study", "cell_id", "tissue"]


def test_a_cell_that_is_not_there_is_named(stub, refused):
    request = pb.GetCellsRequest(cells=[pb.CellId(study="kang2018", cell_id="TTT")])
    code, info, _ = refused(lambda: stub.GetCells(request))
    assert code is grpc.StatusCode.NOT_FOUND
    assert (info.reason, dict(info.metadata)) == ("CELL_NOT_FOUND", {"study": "kang2018", "cell_id": "TTT"})


def test_an_error_of_the_engine_arrives_typed(stub, engine, refused):
    engine.error = UnknownField("tisue", ("age", "tissue"))
    code, info, message = refused(lambda: stub.Search(SEARCH))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (info.reason, dict(info.metadata)) == ("UNKNOWN_FIELD", {"field": "tisue", "known": "age,tissue"})
    assert message == str(engine.error)


@pytest.mark.parametrize("method", ["Search", "Scores"])
def test_a_malformed_request_never_reaches_the_engine(stub, engine, refused, method):
    request = getattr(pb, f"{method}Request")()
    code, info, _ = refused(
        lambda: list([getattr(stub, method)(request)] if method == "Search" else stub.Scores(request))
    )
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (info.reason, dict(info.metadata)) == ("INVALID_ARGUMENT", {"argument": "signature"})
    assert engine.asked == []


@pytest.mark.parametrize("method", [method.name for method in SERVICE.methods if not method.server_streaming])
def test_bytes_that_are_no_message_are_an_invalid_argument(served, refused, method):
    call = served.channel.unary_unary(f"/{SERVICE.full_name}/{method}")
    code, info, message = refused(lambda: call(b"\xff\xff\xff"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.metadata["argument"] == "request"
    assert "insignia.v1." in message


@pytest.mark.parametrize(
    ("settings", "method", "request_"),
    [
        ({"max_k": 5}, "Search", pb.SearchRequest(signature=SIGNATURE, k=6)),
        ({"max_genes": 2}, "Search", SEARCH),
        ({"max_genes": 2}, "ResolveGenes", pb.ResolveGenesRequest(genes=["A", "B", "C"])),
        ({"max_k": 1}, "GetCells", pb.GetCellsRequest(cells=[pb.CellId()] * 2)),
    ],
)
def test_what_is_over_a_limit_is_refused_and_not_to_be_tried_again(
    serve, refused, settings, method, request_
):
    stub = serve(**settings).stub
    code, info, message = refused(lambda: getattr(stub, method)(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert info.reason == "LIMIT_EXCEEDED"
    assert info.metadata["limit"] == str(next(iter(settings.values())))
    assert "limit" in message


def test_an_answer_over_the_message_limit_is_refused_with_advice(serve, engine, refused):
    many = Table({"x": Column.numbers(np.zeros(10_000))})
    engine.result = replace(engine.result, group_table=many)
    stub = serve(max_message_bytes=1 << 16).stub
    code, info, message = refused(lambda: stub.Search(SEARCH))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert "ask for fewer cells" in message


def test_a_request_over_the_message_limit_is_refused(serve, engine):
    stub = serve(max_message_bytes=1 << 16).stub
    with pytest.raises(grpc.RpcError) as caught:
        stub.ResolveGenes(pb.ResolveGenesRequest(genes=["A" * 70_000]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert engine.asked == []


def test_answers_above_the_usual_four_mebibytes_are_sent(serve, engine):
    engine.result = replace(engine.result, group_table=Table({"x": Column.numbers(np.zeros(700_000))}))
    served = serve()
    with grpc.insecure_channel(served.address, [("grpc.max_receive_message_length", 64 << 20)]) as channel:
        assert AtlasServiceStub(channel).Search(SEARCH).ByteSize() > 5 << 20


def test_a_search_alone_has_all_threads(serve, engine):
    serve(threads=7).stub.Search(SEARCH)
    assert engine.given_threads == [7]


async def test_an_asyncio_client_and_server_share_one_event_loop(engine):
    server = Server(engine, ServerConfig(listen="127.0.0.1:0"))
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = AtlasServiceStub(channel)
        assert await stub.Search(SEARCH) == encode.search_response(engine.result)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Search(pb.SearchRequest())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await server.stop()


def test_cell_ids_reach_the_engine_as_such(serve, engine, monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "cells", lambda ids: asked.extend(ids) or Table({}))
    serve().stub.GetCells(pb.GetCellsRequest(cells=[pb.CellId(study="s", cell_id="c:1")]))
    assert asked == [CellId("s", "c:1")]
