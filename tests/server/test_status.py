import logging

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

import insignia_index  # noqa: F401  # so that its errors are in the tree
import insignia_server.errors
from insignia_model import errors
from insignia_model.errors import InsigniaError
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server.status import CODES, code_of, reported, rich_status

SEARCH = pb.SearchRequest(signature=pb.Signature(genes=["IFIT1"]))


def tree(cls=InsigniaError):
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


def unpacked(status):
    rich = Status.FromString(dict(status.trailing_metadata)["grpc-status-details-bin"])
    info = ErrorInfo()
    assert rich.details[0].Unpack(info)
    return rich, info


def test_every_error_of_the_model_and_of_the_server_is_in_the_table():
    ours = {c for c in tree() if c.__module__ in (errors.__name__, insignia_server.errors.__name__)}
    assert len(ours) > 15
    assert ours == set(CODES)


@pytest.mark.parametrize("cls", list(tree()), ids=lambda cls: cls.__name__)
def test_every_error_that_exists_has_a_status_and_only_the_unknown_is_internal_by_default(cls):
    assert (
        any(parent in CODES for parent in cls.__mro__ if parent is not InsigniaError) or cls is InsigniaError
    )
    assert code_of(cls.__new__(cls)) is not grpc.StatusCode.OK


def test_a_subclass_has_the_status_of_its_parent():
    class StudyHidden(errors.StudyNotFound):
        pass

    try:
        assert code_of(StudyHidden("kang2018")) is grpc.StatusCode.NOT_FOUND
    finally:
        del InsigniaError.by_reason["STUDY_HIDDEN"]


def test_an_error_travels_with_domain_reason_data_and_sentence():
    error = errors.StudyNotFound("kang2018")
    status = rich_status(error)
    rich, info = unpacked(status)
    assert (info.domain, info.reason, dict(info.metadata)) == (
        "insignia",
        "STUDY_NOT_FOUND",
        {"study": "kang2018"},
    )
    assert status.code is grpc.StatusCode.NOT_FOUND
    assert rich.message == status.details == str(error)


@given(st.dictionaries(st.text("abc", min_size=1), st.text(), max_size=6), st.text())
def test_any_data_fits_the_trailers(data, message):
    error = InsigniaError(message * 1000, **{f"k{name}": value * 1000 for name, value in data.items()})
    status = rich_status(error)
    _, info = unpacked(status)
    assert set(info.metadata) == set(error.data)
    on_wire = sum(
        len(c.encode()) if c.isascii() and c.isprintable() else 3 * len(c.encode()) for c in status.details
    )
    details = dict(status.trailing_metadata)["grpc-status-details-bin"]
    assert on_wire + len(details) * 4 / 3 < 8_000


def test_twenty_thousand_unknown_genes_are_told_within_the_trailers(stub, engine, refused):
    engine.error = errors.NoGeneResolved({f"GENE{i}": "not in the atlas" for i in range(20_000)})
    code, info, message = refused(lambda: stub.Search(SEARCH))
    assert code is grpc.StatusCode.NOT_FOUND
    assert info.metadata["names"].startswith("GENE0,GENE1,")
    assert "GENE0" in message


def test_what_is_no_insignia_error_is_logged_in_full_and_leaks_nothing(stub, engine, refused, caplog):
    engine.error = RuntimeError("password=hunter2 at /srv/secret/path")
    with caplog.at_level(logging.ERROR):
        code, info, message = refused(lambda: stub.Search(SEARCH))
    assert code is grpc.StatusCode.INTERNAL
    assert info.reason == "INSIGNIA_ERROR"
    assert "hunter2" not in message + str(info)
    assert "secret" not in message + str(info)
    reference = info.metadata["reference"]
    assert reference in message
    record = next(r for r in caplog.records if reference in r.getMessage())
    assert "hunter2" in str(record.exc_info[1])
    assert record.exc_info[2] is not None


def test_a_damaged_atlas_is_also_told_to_the_log(caplog):
    error = errors.AtlasCorrupt("shards/kang2018/values", "checksum differs")
    with caplog.at_level(logging.ERROR):
        assert reported(error) is error
    assert "checksum differs" in caplog.text
