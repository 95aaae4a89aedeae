"""The synchronous client against a server."""

from __future__ import annotations

import time
from typing import Any

import grpc
import numpy as np
import pytest

from insignia_client import AsyncClient, Client, HitRule, Signature, gt
from insignia_client._calls import Wire
from insignia_client.errors import (
    AnswerTooLarge,
    CallCancelled,
    ClientClosed,
    DeadlineExceeded,
    IncompatibleServer,
    QuestionTooLarge,
    ServerError,
    ServerUnavailable,
)
from insignia_model import CellId, Column, SearchRequest, Table
from insignia_model.errors import (
    AtlasCorrupt,
    CellNotFound,
    InvalidArgument,
    NoGeneResolved,
    Overloaded,
    RequestError,
    ServiceError,
    UnknownField,
)
from insignia_proto.v1 import insignia_pb2 as pb


@pytest.fixture
def client(server: Any) -> Any:
    with Client(server.target) as client:
        yield client


def test_a_search_answers_as_the_embedded_atlas_does(client: Client, fake_atlas: Any) -> None:
    options: dict[str, Any] = {"k": 20, "group_by": ["study", "tissue"], "quantiles": True, "min_cells": 7}
    served = client.search(["CD14", "Q06828", "nope"], **options)
    embedded = fake_atlas.run(SearchRequest.of(["CD14", "Q06828", "nope"], **options))
    assert served.to_dict() | {"elapsed_ms": 0} == embedded.to_dict() | {"elapsed_ms": 0}
    assert served.min_cells == 7
    assert served.genes.missing == ("nope",)
    assert served.sample_table.columns.keys() == embedded.sample_table.columns.keys()
    assert served.cell_table["score"].values.dtype == np.float32


def test_everything_that_is_asked_reaches_the_server(client: Client, server: Any) -> None:
    client.search(
        {"CD14": 2, "LYZ": -1},
        k=0,
        where={"tissue": ["blood", "lung"], "age": gt(40), "doublet": False, "n_counts": np.int64(3)},
        group_by="tissue",
        hits="top:1000000",
        aggregate="sum",
        min_coverage=0.5,
    )
    (request,) = server.service.requests
    assert request.k == 0
    assert request.HasField("k")
    assert list(request.signature.weights) == [2, -1]
    assert request.hits.top == 1_000_000
    assert request.aggregate == pb.AGGREGATE_SUM
    assert request.min_coverage == 0.5
    assert [c.operator for c in request.where] == [
        pb.OPERATOR_IN,
        pb.OPERATOR_GREATER,
        pb.OPERATOR_IN,
        pb.OPERATOR_IN,
    ]
    kinds = [c.values[0].WhichOneof("value") for c in request.where]
    assert kinds == ["text", "integer", "boolean", "integer"]


def test_scores_come_with_the_gene_report_and_without_empty_runs(client: Client) -> None:
    scores = client.scores(["CD14", "nope"], cell_ids=True)
    assert scores.genes.missing == ("nope",)
    assert [chunk.study for chunk in scores] == ["kang", "baron"]
    assert [chunk.scores.dtype for chunk in scores] == [np.float32, np.float64]
    assert scores.chunks[0].rows.tolist() == [0, 1, 2]
    assert scores.chunks[1].rows.tolist() == [4, 7, 9]
    assert scores.chunks[1].cell_ids == ("a", "b", "c")
    assert len(scores) == 6
    assert [chunk.study for chunk in client.iter_scores(["CD14"])] == ["kang", "baron"]


def test_leaving_a_score_stream_stops_the_server(client: Client, server: Any) -> None:
    server.service.scores_forever = True
    stream = client.iter_scores(["CD14"])
    assert next(stream).study == "kang"
    stream.close()
    assert server.service.stream_ended.wait(2)


def test_the_atlas_can_be_browsed(client: Client, fake_atlas: Any) -> None:
    assert client.studies() == fake_atlas.studies()
    assert client.fields(max_values=1) == fake_atlas.fields(1)
    assert client.fields()[1].maximum == 80.0
    assert client.info() == fake_atlas.info()
    assert client.resolve_genes(["LYZ", "x"]) == fake_atlas.resolve_genes(["LYZ", "x"])
    cells = client.cells(["kang:a:b", ("baron", "c"), CellId("kang", "d")])
    assert [row["cell_id"] for row in cells.rows()] == ["a:b", "c", "d"]
    assert cells["tissue"].to_list() == ["blood", None, "blood"]


def test_the_repr_tells_the_target_and_then_the_atlas(client: Client, server: Any) -> None:
    assert repr(client) == f"<Client {server.target}>"
    client.info()
    assert "2 studies, 20 samples, 33,242 cells" in repr(client)


def test_errors_of_the_server_come_back_as_their_own_class(client: Client, server: Any) -> None:
    with pytest.raises(NoGeneResolved, match=r"x, y \(not in the atlas\)") as raised:
        client.search(["x", "y"])
    assert raised.value.data == {"names": "x,y"}
    assert isinstance(raised.value.__cause__, grpc.RpcError)
    with pytest.raises(CellNotFound) as cell:
        client.cells(["nowhere:c"])
    assert (cell.value.data["study"], cell.value.data["cell_id"]) == ("nowhere", "c")
    for error in (UnknownField("tisue", ("tissue",)), AtlasCorrupt("f", "is short")):
        server.service.failures = [error]
        with pytest.raises(type(error)) as other:
            client.scores(["CD14"])
        assert str(other.value) == str(error)


def test_an_error_that_only_a_newer_server_knows_keeps_its_kind(client: Client, server: Any) -> None:
    class NewerError(RequestError):
        pass

    error = NewerError("the signature is too odd")
    error.data = {"oddness": "3", "message": "not this", "data": "nor this"}
    del RequestError.by_reason[NewerError.reason]
    server.service.failures = [error]
    with pytest.raises(RequestError, match="too odd") as raised:
        client.info()
    assert type(raised.value) is RequestError
    assert raised.value.data["oddness"] == "3"
    assert raised.value.message == "the signature is too odd"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNIMPLEMENTED, IncompatibleServer),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.UNKNOWN, ServerError),
        (grpc.StatusCode.DATA_LOSS, ServerError),
        (grpc.StatusCode.CANCELLED, CallCancelled),
        (grpc.StatusCode.INVALID_ARGUMENT, RequestError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.UNAVAILABLE, ServerUnavailable),
    ],
)
def test_a_bare_status_becomes_a_typed_error(server: Any, code: Any, kind: type[Exception]) -> None:
    server.service.failures = [(code, "because")]
    with Client(server.target, retries=0) as client, pytest.raises(kind):
        client.info()


def test_details_that_are_no_status_are_ignored(server: Any) -> None:
    def fail(context: Any) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.INTERNAL, "broken")

    server.service.failures = [fail]
    with Client(server.target) as client, pytest.raises(ServerError, match="broken"):
        client.info()


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_is_away_or_full_for_a_moment_is_asked_again(
    client: Client, server: Any, code: Any
) -> None:
    server.service.failures = [(code, "a moment")] * 2
    assert client.search(["CD14"]).n_cells == 1_000
    assert len(server.service.requests) == 3
    server.service.failures = [(code, "a moment")] * 2
    assert len(client.scores(["CD14"])) == 6


def test_a_server_that_restarts_is_found_again(new_server: Any) -> None:
    with new_server() as first:
        client = Client(first.target, retries=4)
        assert client.info().n_studies == 2
    with client, new_server(first.target):
        assert client.search(["CD14"]).n_cells == 1_000


def test_retries_end(server: Any) -> None:
    server.service.failures = [(grpc.StatusCode.UNAVAILABLE, "gone")] * 9
    with Client(server.target, retries=1) as client, pytest.raises(ServerUnavailable):
        client.info()
    assert len(server.service.requests) == 2


def test_other_failures_are_not_retried(client: Client, server: Any) -> None:
    server.service.failures = [(grpc.StatusCode.INTERNAL, "no")]
    with pytest.raises(ServerError):
        client.info()
    assert len(server.service.requests) == 1


def test_nobody_at_the_target_is_said_soon() -> None:
    start = time.perf_counter()
    with Client("127.0.0.1:1", retries=1) as client, pytest.raises(ServerUnavailable, match="at 127"):
        client.studies()
    assert time.perf_counter() - start < 5


def test_a_deadline_passes(client: Client, server: Any) -> None:
    server.service.failures = ["stuck"]
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        client.info(timeout_s=0.1)
    assert server.service.stuck.is_set()


def test_the_deadline_of_the_client_holds_for_its_calls(server: Any) -> None:
    server.service.failures = ["stuck"]
    with Client(server.target, timeout_s=0.1) as client, pytest.raises(DeadlineExceeded):
        client.search(["CD14"])


def test_an_answer_over_the_limit_is_told_as_such(server: Any) -> None:
    with Client(server.target, max_message_bytes=500) as client:
        with pytest.raises(AnswerTooLarge, match="max_message_bytes"):
            client.search(["CD14"])
        assert len(server.service.requests) == 1  # not a server without room: asking again is no use


def test_an_answer_that_contradicts_itself_is_refused(client: Client, server: Any) -> None:
    unequal = Table({"x": Column.numbers([1.0]), "y": Column.numbers([])})
    server.service.atlas.cells = lambda ids: unequal
    with pytest.raises(IncompatibleServer, match="unequal length"):
        client.cells(["kang:a"])


def test_a_closed_client_says_so(server: Any) -> None:
    client = Client(server.target)
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.info()
    with pytest.raises(ClientClosed):
        list(client.iter_scores(["CD14"]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": -1},
        {"aggregate": "max"},
        {"hits": "best:3"},
        {"where": "tissue"},
        {"where": {"tissue": None}},
        {"timeout_s": 0},
        {"min_coverage": 2},
        {"group_by": ["a", "a"]},
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(client: Client, server: Any, wrong: Any) -> None:
    with pytest.raises(InvalidArgument):
        client.search(["CD14"], **wrong)
    assert server.service.requests == []


def test_a_client_that_cannot_work_is_not_made() -> None:
    for wrong in (
        {"target": ""},
        {"retries": 5},
        {"retries": -1},
        {"timeout_s": -1},
        {"max_message_bytes": 0},
    ):
        with pytest.raises(InvalidArgument):
            Client(**wrong)  # type: ignore[arg-type]


def test_one_string_is_no_list_of_names(client: Client) -> None:
    with pytest.raises(InvalidArgument):
        client.resolve_genes("CD14")
    with pytest.raises(InvalidArgument):
        client.cells("kang:a")
    with pytest.raises(RequestError):
        client.search("CD14")


def test_a_prepared_request_can_be_run(client: Client) -> None:
    request = SearchRequest(Signature.of(["CD14"], "mono"), hits=HitRule.top(5))
    assert client.run(request).signature == "mono"


def test_all_errors_of_the_connection_are_service_errors() -> None:
    from insignia_client import errors

    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, ServiceError) for kind in kinds)


@pytest.mark.parametrize(
    ("target", "problem", "advice"),
    [
        ("127.0.0.1:5", "connection refused", "`insignia serve ATLAS --listen 127.0.0.1:5` starts one"),
        ("other:5", "connection refused", "no firewall is between"),
        ("unix:/tmp/x", "no such file", "no firewall is between"),
        ("other:5", "Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "check the certificates"),
        ("mainframe:5", "DNS resolution failed for mainframe:5", "no firewall is between"),
        ("handshake failed:5", "DNS resolution failed for handshake failed:5", "no firewall is between"),
        ("127.0.0.1:5", "Socket closed", "`insignia serve"),
        ("127.0.0.1:5", "Received http2 header with status: 503", "a proxy that has no server behind it"),
        ("other:5", "Hostname Verification Check failed", "check the certificates"),
        ("127.0.0.1:5", "Expected SETTINGS frame as the first frame, got frame type 79", "not speak gRPC"),
    ],
)
def test_an_unavailable_server_gets_the_advice_that_fits(target: str, problem: str, advice: str) -> None:
    assert advice in str(ServerUnavailable(target, problem))


@pytest.mark.parametrize("target", ["", "localhost", "localhost:", "localhost:90000", "a b:5", "http://a:5"])
def test_a_target_that_is_no_address_is_refused(target: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidArgument, match="is not HOST:PORT"):
            kind(target)


def test_what_this_client_may_not_send_is_the_clients_limit(server: Any) -> None:
    refused = pytest.raises(QuestionTooLarge, match="give the client a larger max_message_bytes")
    with Client(server.target, max_message_bytes=1_000, retries=0) as client, refused:
        client.search([f"GENE{n}" for n in range(1_000)])


def test_clients_have_connections_of_their_own() -> None:
    options = dict(Wire("127.0.0.1:5", 1.0, 2, 1 << 20).options)
    assert options["grpc.use_local_subchannel_pool"] == 1
    # the least back-off is also the time that connecting may take: 100 ms are too few for a distant server
    assert "grpc.min_reconnect_backoff_ms" not in options
