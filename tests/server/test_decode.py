import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insignia_model import Condition, Contrast, HitRule, SearchRequest, Signature
from insignia_model.errors import InvalidArgument, InvalidSignature, LimitExceeded, RequestError
from insignia_model.hits import KINDS
from insignia_proto.v1 import insignia_pb2 as pb
from insignia_server import decode
from insignia_server.config import ServerConfig

CONFIG = ServerConfig(max_k=1000, max_genes=50)
SIGNATURE = pb.Signature(genes=["IFIT1", "ISG15"])


def request(**fields):
    return pb.SearchRequest(**{"signature": SIGNATURE} | fields)


def search(**fields):
    return decode.search_request(request(**fields), CONFIG)


def test_what_is_absent_takes_the_default_that_the_proto_states():
    assert search() == SearchRequest(Signature.of(["IFIT1", "ISG15"]), k=100, group_by=(), min_cells=10)


def test_zero_cells_asked_is_not_the_default():
    assert search(k=0).k == 0


def test_every_field_arrives():
    message = request(
        signature=pb.Signature(name="IFN", genes=["IFIT1", "CD19"], weights=[2, -1]),
        k=7,
        where=[
            pb.Condition(
                field="tissue",
                operator=pb.OPERATOR_IN,
                values=[pb.Value(text="blood"), pb.Value(integer=3), pb.Value(boolean=True)],
            ),
            pb.Condition(field="age", operator=pb.OPERATOR_GREATER_EQUAL, values=[pb.Value(number=40.5)]),
            pb.Condition(field="sex", operator=pb.OPERATOR_MISSING),
        ],
        group_by=["study", "disease"],
        hits=pb.HitRule(top=12),
        aggregate=pb.AGGREGATE_SUM,
        quantiles=True,
        min_cells=3,
        min_coverage=0.5,
        contrasts=[pb.Contrast(field="disease", value="lupus", reference="normal")],
        compare=True,
        min_samples=4,
    )
    expected = SearchRequest(
        Signature({"IFIT1": 2.0, "CD19": -1.0}, "IFN"),
        k=7,
        where=(
            Condition("tissue", "in", ("blood", 3, True)),
            Condition("age", ">=", (40.5,)),
            Condition("sex", "missing"),
        ),
        group_by=("study", "disease"),
        hits=HitRule.top(12),
        aggregate="sum",
        quantiles=True,
        min_cells=3,
        min_coverage=0.5,
        contrasts=(Contrast("disease", "lupus", "normal"),),
        compare=True,
        min_samples=4,
    )
    decoded = decode.search_request(message, CONFIG)
    assert decoded == expected
    assert decoded.where[0].values[2] is True


def test_every_operator_and_aggregate_of_the_proto_is_known():
    assert set(decode.OPERATORS) == set(pb.Operator.values()) - {pb.OPERATOR_UNSPECIFIED}
    assert set(decode.AGGREGATES) == set(pb.Aggregate.values())


def test_every_hit_rule_of_the_proto_is_one_of_the_model():
    rules = [field.name for field in pb.HitRule.DESCRIPTOR.oneofs_by_name["rule"].fields]
    assert set(rules) == set(KINDS)
    for rule in rules:
        assert decode.hit_rule(pb.HitRule(**{rule: 1})) == HitRule(rule, 1.0)


def test_without_weights_a_repeated_gene_counts_once():
    assert decode.signature(pb.Signature(genes=["A", " A ", "B"])) == Signature({"A": 1.0, "B": 1.0})


MALFORMED = {
    "no signature": pb.SearchRequest(),
    "no genes": request(signature=pb.Signature()),
    "blank gene": request(signature=pb.Signature(genes=["A", " "])),
    "weights of another length": request(signature=pb.Signature(genes=["A", "B"], weights=[1])),
    "weights without genes": request(signature=pb.Signature(weights=[1])),
    "a gene with two weights": request(signature=pb.Signature(genes=["A", "A "], weights=[1, 2])),
    "a weight that is not finite": request(signature=pb.Signature(genes=["A"], weights=[math.inf])),
    "all weights zero": request(signature=pb.Signature(genes=["A"], weights=[0])),
    "hit rule not set": request(hits=pb.HitRule()),
    "percentile above 100": request(hits=pb.HitRule(percentile=101)),
    "percentile not a number": request(hits=pb.HitRule(percentile=math.nan)),
    "top zero": request(hits=pb.HitRule(top=0)),
    "unknown aggregate": request(aggregate=9),
    "operator not set": request(where=[pb.Condition(field="x", values=[pb.Value(text="a")])]),
    "unknown operator": request(where=[pb.Condition(field="x", operator=99)]),
    "value not set": request(where=[pb.Condition(field="x", operator=pb.OPERATOR_IN, values=[pb.Value()])]),
    "no value": request(where=[pb.Condition(field="x", operator=pb.OPERATOR_IN)]),
    "text where a number is needed": request(
        where=[pb.Condition(field="x", operator=pb.OPERATOR_LESS, values=[pb.Value(text="a")])]
    ),
    "a value where none belongs": request(
        where=[pb.Condition(field="x", operator=pb.OPERATOR_MISSING, values=[pb.Value(text="a")])]
    ),
    "no cells are a replicate": request(min_cells=0),
    "a contrast without a reference": request(contrasts=[pb.Contrast(field="disease", value="lupus")]),
    "a contrast with itself": request(contrasts=[pb.Contrast(field="a", value="b", reference="b")]),
    "a rest of everything": request(compare=True),
    "one sample is enough": request(min_samples=1),
    "coverage above 1": request(min_coverage=1.5),
    "coverage not a number": request(min_coverage=math.nan),
    "a group field twice": request(group_by=["a", "a"]),
    "a group field that is named as a column of the result": request(group_by=["a", "n_hits"]),
    "a group field that is named as a column of tests": request(group_by=["p"], compare=True),
}


@pytest.mark.parametrize("name", sorted(MALFORMED))
def test_a_malformed_request_is_refused(name):
    with pytest.raises((InvalidArgument, InvalidSignature)):
        decode.search_request(MALFORMED[name], CONFIG)


def test_a_gene_with_two_weights_is_named():
    with pytest.raises(InvalidSignature, match="gene 'A' stands twice"):
        decode.signature(pb.Signature(genes=["B", "A", "C", "A "], weights=[1, 2, 3, 4]))


def test_limits_are_the_configured_ones():
    assert search(k=1000).k == 1000
    with pytest.raises(LimitExceeded, match=r"k: 1,001 .* 1,000"):
        search(k=1001)
    with pytest.raises(LimitExceeded, match="genes"):
        search(signature=pb.Signature(genes=[f"G{i}" for i in range(51)]))
    with pytest.raises(LimitExceeded, match="genes"):
        decode.gene_names(pb.ResolveGenesRequest(genes=["A"] * 51), CONFIG)
    with pytest.raises(LimitExceeded, match="cells"):
        decode.cell_ids(pb.GetCellsRequest(cells=[pb.CellId()] * 1001), CONFIG)


messages = st.builds(
    pb.SearchRequest,
    signature=st.builds(
        pb.Signature,
        genes=st.lists(st.text(max_size=3), max_size=4),
        weights=st.lists(st.floats(), max_size=4),
    ),
    k=st.integers(0, 2**64 - 1),
    where=st.lists(
        st.builds(
            pb.Condition,
            field=st.text(max_size=3),
            operator=st.integers(0, 12),
            values=st.lists(
                st.one_of(
                    st.builds(pb.Value, text=st.text(max_size=3)), st.builds(pb.Value, number=st.floats())
                ),
                max_size=2,
            ),
        ),
        max_size=2,
    ),
    group_by=st.lists(st.text(max_size=2), max_size=3),
    hits=st.one_of(
        st.none(),
        st.builds(pb.HitRule, quantile=st.floats()),
        st.builds(pb.HitRule, top=st.integers(0, 2**64 - 1)),
    ),
    aggregate=st.integers(-3, 5),
    min_cells=st.integers(0, 2**32 - 1),
    min_coverage=st.floats(),
)


@given(messages)
def test_any_message_is_either_a_request_or_a_request_error(message):
    try:
        decoded = decode.search_request(message, CONFIG)
    except RequestError:
        return
    assert 0 < len(decoded.signature) <= 50
    assert decoded.k <= 1000


def test_more_contrasts_than_a_server_takes_are_refused():
    many = [pb.Contrast(field="sample", value=str(i), reference="none") for i in range(101)]
    assert len(search(contrasts=many[:100]).contrasts) == 100
    with pytest.raises(LimitExceeded, match="contrasts"):
        search(contrasts=many)


def test_names_and_filters_that_would_keep_a_server_busy_are_refused():
    long = ["A" * 1_001]
    for ask in (
        lambda: search(signature=pb.Signature(genes=long)),
        lambda: decode.gene_names(pb.ResolveGenesRequest(genes=long), CONFIG),
        lambda: search(where=[pb.Condition(field="x", operator=pb.OPERATOR_MISSING)] * 1_001),
    ):
        with pytest.raises(LimitExceeded):
            ask()
    assert search(signature=pb.Signature(genes=["A" * 1_000])).signature.genes == ("A" * 1_000,)
