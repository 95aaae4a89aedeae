"""A screen over a server: the rows of the embedded one, and a server that stays whole whoever goes away."""

import math
import threading
import time

import grpc
import pytest

from insignia_client import AsyncClient, Client, read_gmt
from insignia_client.errors import QuestionTooLarge
from insignia_model import Signature
from insignia_model.errors import (
    InsigniaError,
    InvalidArgument,
    InvalidSignature,
    LimitExceeded,
    NoGeneResolved,
    Overloaded,
)
from insignia_model.screen import concatenated, with_fdr
from insignia_proto.v1 import insignia_pb2 as pb

from .serving import DATA, served

SETS = dict(read_gmt(DATA / "signatures.gmt"))
LIBRARY = SETS | {"unknown": ["NOSUCH"], "empty": [], "": ["CD14"], "signed": {"CD14": 2.5, "CD3E": -1.0}}
QUESTIONS = {
    "defaults": {},
    "groups": {"group_by": ("study", "cell_type"), "hits": "top:50", "min_cells": 1},
    "means": {"hits": None, "aggregate": "sum", "group_by": ("condition",)},
    "null": {"null": True},
    "no cell": {"where": {"tissue": "no such tissue"}},
}
TIMEOUT_S = 60


def rows(table):
    return [list(map(repr, row.items())) for row in table.rows()]


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
async def test_rows_are_those_of_the_embedded_screen(atlas, address, client, question):
    embedded = atlas.screen(LIBRARY, **question).to_table()
    assert {r["signature"] for r in embedded.rows() if r["reason"]} == {"unknown", "empty"}
    assert rows(client.screen(LIBRARY, **question).to_table()) == rows(embedded)
    async with AsyncClient(address) as other:
        chunks = [chunk async for chunk in other.screen(LIBRARY, **question)]
        whole = await other.screen(LIBRARY, **question).to_table()
    assert rows(whole) == rows(embedded)
    assert rows(with_fdr(concatenated([chunk.table for chunk in chunks]))) == rows(embedded)
    assert sum(chunk.n_signatures for chunk in chunks) == len(LIBRARY)


def ask(client, messages):
    return list(client._stub.Screen(iter(messages), timeout=TIMEOUT_S))


QUESTION = pb.ScreenRequest(question=pb.ScreenQuestion(group_by=["study"]))
SOME = pb.ScreenRequest(
    signatures=pb.ScreenSignatures(signatures=[pb.ScreenSignature(signature=pb.Signature(genes=["CD14"]))])
)
HITS_OF_MEANS = pb.ScreenQuestion(means_only=True, hits=pb.HitRule(percentile=5))


@pytest.mark.parametrize(
    "messages",
    [[], [SOME], [QUESTION, QUESTION], [QUESTION, SOME, QUESTION], [pb.ScreenRequest()],
     [QUESTION, pb.ScreenRequest()], [pb.ScreenRequest(question=HITS_OF_MEANS)]],
    ids=["nothing", "no question", "twice", "twice, later", "empty", "empty, later", "hits of means"],
)  # fmt: skip
def test_a_malformed_stream_is_refused_and_the_next_one_works(client, messages):
    with pytest.raises(grpc.RpcError) as raised:
        ask(client, messages)
    assert raised.value.code().name == "INVALID_ARGUMENT"
    assert len(ask(client, [QUESTION, SOME])) == 2


def test_a_signature_of_too_many_genes_is_a_row(client):
    many = [f"X{i}" for i in range(200_000)]
    found = list(client.screen({"many": many, "good": ["CD14"]}).to_table().rows())
    assert "200" in found[0]["reason"]
    assert {row["signature"] for row in found if row["reason"] is None} == {"good"}


def test_an_unknown_field_is_the_same_error(atlas, client):
    for backend in (atlas, client):
        with pytest.raises(InsigniaError, match="no field"):
            backend.screen(SETS, group_by="no field")


class Slow:
    """Signatures of which the second block is held back."""

    def __init__(self):
        self.go_on = threading.Event()

    def __iter__(self):
        from insignia_model import Signature

        yield Signature({"CD14": 1.0}, "first")
        assert self.go_on.wait(TIMEOUT_S)
        yield Signature({"LYZ": 1.0}, "second")


def test_while_a_slow_client_screens_searches_are_answered_and_a_second_screen_is_refused(address):
    slow = Slow()
    with Client(address, retries=0) as client:
        stream = client.screen(slow)
        assert client.search(["CD14"]).n_cells > 0
        with pytest.raises(Overloaded):
            client.screen(SETS)
        with Client(address) as patient:
            threading.Timer(0.3, slow.go_on.set).start()
            drained = threading.Thread(target=lambda: done.append(stream.to_table()))
            done = []
            drained.start()
            assert len(patient.screen({"x": ["CD14"]}).to_table()) > 0
            drained.join()
    assert {row["signature"] for row in done[0].rows()} == {"first", "second"}


@pytest.mark.parametrize("leave", ["close", "deadline", "disconnect"])
def test_whoever_leaves_in_the_middle_makes_room(address, client, leave):
    slow = Slow()
    other = Client(address)
    stream = other.screen(slow, timeout_s=0.3 if leave == "deadline" else None)
    if leave == "close":
        stream.close()
    elif leave == "deadline":
        with pytest.raises(InsigniaError, match=r"0\.3"):
            next(stream)
    else:
        other.close()
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            assert len(client.screen({"x": ["CD14"]}).to_table()) > 0
            break
        except Overloaded:
            assert time.monotonic() < end
    slow.go_on.set()
    other.close()


def test_a_bad_rule_is_refused_before_anything_is_sent(client):
    with pytest.raises(InvalidArgument):
        client.screen(SETS, hits="percentile:101")


class Mine(Exception):
    """An error of whoever makes the signatures."""


def failing(error):
    yield Signature({"CD14": 1.0}, "a")
    raise error


@pytest.mark.parametrize("error", [Mine("mine"), InvalidArgument("x", "is bad"), KeyboardInterrupt("now")])
async def test_an_error_among_the_signatures_is_raised_as_it_is(address, client, error):
    with pytest.raises(type(error)) as caught:
        client.screen(failing(error)).to_frame()
    assert caught.value is error
    async with AsyncClient(address) as other:
        with pytest.raises(type(error)) as caught:
            async for _ in other.screen(failing(error)):
                pass
    assert caught.value is error


def test_what_no_message_can_hold_is_refused_here(client):
    for ask in (
        lambda: client.search(["CD14", "\udcff"]),
        lambda: client.search(["CD14"], k=2**70),
        lambda: client.search(["CD14"], where={"donor": 2**70}),
        lambda: client.resolve_genes(["\udcff"]),
        lambda: client.cells([("pbmc3k", "\udcff")]),
        lambda: client.explain(["CD14"], k=2**70),
        lambda: client.similar("pbmc3k:x", k=2**70),
        lambda: client.screen({"a": ["CD14"]}, n_leading=2**40).to_frame(),
        lambda: client.fields(2**40),
    ):
        with pytest.raises((InvalidArgument, InvalidSignature)):
            ask()


def test_a_request_over_the_servers_limit_is_told_as_such(atlas_path):
    with served(atlas_path, "--max-message-bytes", "65536") as address, Client(address, retries=0) as client:
        with pytest.raises(QuestionTooLarge, match="--max-message-bytes"):
            client.search(["CD14", "x" * 70_000])
        assert len(client.search(["CD14"], k=1, timeout_s=math.inf).cell_table) == 1
        with pytest.raises(InvalidArgument, match="timeout_s: -1 is not above 0"):
            client.scores(["CD14"], timeout_s=-1)


def test_a_screen_whose_rows_are_over_the_limit_comes_in_smaller_messages(atlas_path, atlas):
    sets = {f"S{i}": ["CD14", "LYZ", f"G{i}"] for i in range(200)}
    asked = {"group_by": ["sample", "cell_type"], "n_leading": 3}
    with served(atlas_path, "--max-message-bytes", "200000") as address, Client(address) as client:
        stream = client.screen(sets, **asked)
        tables = [chunk.table for chunk in stream]
    assert len(tables) > 5
    whole = atlas.screen(sets, **asked).to_table()
    assert [*concatenated(tables).rows()] == [*whole.rows()]


def test_more_groups_than_the_server_allows_are_refused_before_anything_is_scored(atlas_path):
    with served(atlas_path, "--max-groups", "3") as address, Client(address) as client:
        few = {"group_by": ("study",), "where": {"study": "pbmc3k"}}
        assert len(client.search(["CD14"], **few).groups) == 1
        assert len(client.screen({"x": ["CD14"]}, **few).to_frame()) == 1
        for ask in (
            lambda: client.search(["CD14"], group_by="cell_type"),
            lambda: client.similar(profile=["CD14"], group_by="cell_type"),
            lambda: client.screen({"x": ["CD14"]}, group_by="cell_type"),
        ):
            with pytest.raises(LimitExceeded, match=r"groups: \d+ is over"):
                ask()
        with pytest.raises(LimitExceeded, match=r"samples: \d+ is over"):
            client.search(["CD14"], group_by=())


async def test_scores_come_with_what_became_of_the_genes(atlas, address, client):
    names = ["CD14", "NOSUCH", "FAM65B"]
    report = atlas.iter_scores(names).genes
    assert report.missing == ("NOSUCH",)
    stream = client.iter_scores(names)
    assert stream.genes == report
    stream.close()
    async with AsyncClient(address) as other:
        later = other.iter_scores(names)
        assert later.genes is None
        await anext(later)
        assert later.genes == report
        await later.aclose()
        nothing = other.iter_scores(names, where={"study": "no such study"})
        assert [chunk async for chunk in nothing] == []
        assert nothing.genes == report
    with pytest.raises(NoGeneResolved):
        client.iter_scores(["NOSUCH"])


async def test_a_plan_comes_with_the_first_chunk(address, client):
    async with AsyncClient(address) as other:
        stream = other.screen({"x": ["CD14"]})
        assert stream.plan is None
        await stream.to_frame()
        assert stream.plan == client.screen({"x": ["CD14"]}).plan


async def test_a_screen_of_nothing_has_its_columns(atlas, address, client):
    columns = list(atlas.screen({"x": ["CD14"]}, null=True).to_frame())
    async with AsyncClient(address) as other:
        later = await other.screen({}, null=True).to_frame()
    for frame in (atlas.screen([], null=True).to_frame(), client.screen([], null=True).to_frame(), later):
        assert list(frame) == columns
        assert len(frame) == 0
