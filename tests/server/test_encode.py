from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insignia_model import Column, FieldInfo, GeneReport, Table
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import encode


def values(column):
    """Python values of a Column message, None where missing: a reading by the comments of the proto alone."""
    kind = column.WhichOneof("values")
    message = getattr(column, kind)
    if kind == "categories":
        return [message.dictionary[code - 1] if code else None for code in message.codes]
    if kind in ("floats", "doubles"):
        return [None if value != value else value for value in message.values]
    missing = message.missing or [False] * len(message.values)
    return [None if gone else value for value, gone in zip(message.values, missing, strict=True)]


def expected(column):
    if column.kind == "number":
        return [None if v != v else v for v in column.values.tolist()]
    return column.to_list()


def masks(n):
    return st.one_of(st.none(), hnp.arrays(np.bool_, n))


@st.composite
def columns(draw):
    n = draw(st.integers(0, 300))
    kind = draw(st.sampled_from(["category", "float32", "float64", "integer", "bool"]))
    if kind == "category":
        n_names = draw(st.sampled_from([0, 1, 5, 126, 127, 128, 400]))
        dictionary = tuple(f"näme {i}" for i in range(n_names))
        codes = draw(
            hnp.arrays(draw(st.sampled_from([np.int32, np.int64])), n, elements=st.integers(-1, n_names - 1))
        )
        return Column("category", codes, dictionary)
    if kind.startswith("float"):
        width = int(kind[5:])
        return Column.numbers(draw(hnp.arrays(kind, n, elements=st.floats(width=width))))
    if kind == "integer":
        integers = hnp.arrays(np.int64, n, elements=st.integers(-(2**63), 2**63 - 1))
        return Column("integer", draw(integers), missing=draw(masks(n)))
    return Column("bool", draw(hnp.arrays(np.bool_, n)), missing=draw(masks(n)))


@given(st.dictionaries(st.text("abc", min_size=1), columns(), max_size=3))
def test_every_value_of_a_table_arrives(table):
    message = pb.Table.FromString(encode.table(Table(table)).SerializeToString())
    assert [column.name for column in message.columns] == list(table)
    for sent, column in zip(message.columns, table.values(), strict=True):
        np.testing.assert_array_equal(np.array(values(sent), object), np.array(expected(column), object))


def test_a_few_cells_do_not_carry_the_dictionary_of_a_study():
    column = Column(
        "category", np.array([900, -1, 3, 900], np.int32), tuple(f"cell {i}" for i in range(1000))
    )
    message = encode.table(Table({"cell_id": column})).columns[0]
    assert list(message.categories.dictionary) == ["cell 3", "cell 900"]
    assert values(message) == ["cell 900", None, "cell 3", "cell 900"]


def test_a_column_of_a_slice_is_sent_as_it_reads():
    strided = Column.numbers(np.arange(10.0)[::3])
    assert values(encode.table(Table({"x": strided})).columns[0]) == [0, 3, 6, 9]


def test_an_empty_column_keeps_its_kind():
    empty = {
        "category": Column.text([]),
        "number": Column.numbers([]),
        "float32": Column.numbers(np.empty(0, np.float32)),
        "integer": Column.integers([]),
        "bool": Column("bool", np.empty(0, bool)),
    }
    kinds = [column.WhichOneof("values") for column in encode.table(Table(empty)).columns]
    assert kinds == ["categories", "doubles", "floats", "integers", "bools"]


def test_a_result_without_a_cell_has_no_cutoff(engine):
    assert encode.search_response(engine.result).cutoff == 1.75
    assert not encode.search_response(replace(engine.result, cutoff=None)).HasField("cutoff")
    assert encode.search_response(replace(engine.result, cutoff=0.0)).HasField("cutoff")


def test_a_result_carries_everything_but_the_name_that_the_caller_knows(engine):
    result, message = engine.result, encode.search_response(engine.result)
    assert (message.engine, message.aggregate, message.hits) == ("sparse", pb.AGGREGATE_MEAN, "percentile:95")
    assert (message.n_cells, message.n_hits, message.elapsed_ms) == (400, 20, 2.5)
    assert list(message.group_by) == ["study"]
    assert list(message.genes.asked) == ["IFIT1", "G1P2"]
    assert list(message.genes.used) == ["IFIT1", "ISG15"]
    assert list(message.genes.missing) == ["NOSUCH"]
    for sent, table in (
        (message.cells, result.cell_table),
        (message.groups, result.group_table),
        (message.samples, result.sample_table),
    ):
        assert {c.name: values(c) for c in sent.columns} == {n: expected(c) for n, c in table.columns.items()}


def test_a_field_without_a_range_has_none():
    assert not encode.field(FieldInfo("tissue", "category", 1, 5)).HasField("minimum")
    assert encode.field(FieldInfo("age", "number", 1, 5, minimum=0.0, maximum=1.0)).HasField("minimum")


def test_every_field_of_the_infos_arrives(engine):
    for info, message in [(engine.info(), encode.atlas(engine.info()))] + [
        (study, encode.study(study)) for study in engine.studies()
    ]:
        for name, value in asdict(info).items():
            sent = getattr(message, name)
            assert (tuple(sent) if name == "engines" else sent) == value


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_keep_their_precision(chunk, dtype):
    scored = chunk(3, dtype=dtype)
    (message,) = encode.scores_responses([replace(scored, scores=scored.scores / 3)], GeneReport({}))
    kind = message.WhichOneof("scores")
    assert kind == ("floats" if dtype is np.float32 else "doubles")
    np.testing.assert_array_equal(np.array(getattr(message, kind).values, dtype), scored.scores / 3)


def test_rows_are_sent_only_where_they_are_no_run(chunk):
    run, gaps = encode.scores_responses([chunk(3, rows=[5, 6, 7]), chunk(3, rows=[5, 6, 9])], GeneReport({}))
    assert (run.first_row, list(run.rows)) == (5, [])
    assert list(gaps.rows) == [5, 6, 9]


def test_the_first_message_alone_has_the_gene_report(chunk):
    report = GeneReport({"A": "A"}, ("B",))
    first, second = encode.scores_responses([chunk(2), chunk(2, study="zhao2021")], report)
    assert list(first.genes.missing) == ["B"]
    assert not second.HasField("genes")
    assert (first.study, second.study) == ("kang2018", "zhao2021")


def test_without_any_cell_the_gene_report_still_comes():
    (message,) = encode.scores_responses([], GeneReport({"A": "A"}))
    assert list(message.genes.used) == ["A"]
    assert message.WhichOneof("scores") == "floats"


def test_named_cells_come_in_messages_well_under_the_usual_limit(chunk):
    messages = list(encode.scores_responses([chunk(65_536, names=True)], GeneReport({})))
    assert [len(m.cell_ids) for m in messages] == [encode.NAMED_CELLS] * 4
    assert [m.first_row for m in messages] == [0, 16_384, 32_768, 49_152]
    assert [m.floats.values[0] for m in messages] == [0, 16_384, 32_768, 49_152]
    assert max(m.ByteSize() for m in messages) < 1 << 20
