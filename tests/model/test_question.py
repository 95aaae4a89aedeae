"""What a person types: signatures, conditions, hit rules, requests."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from insignia_model import (
    CellId,
    Condition,
    Contrast,
    HitRule,
    ScreenRequest,
    SearchRequest,
    Signature,
    SimilarRequest,
    ge,
    gt,
    is_missing,
    le,
    lt,
    not_in,
    parse_condition,
    read_gmt,
)
from insignia_model.condition import conditions
from insignia_model.errors import InvalidArgument, InvalidSignature
from insignia_model.screen import signatures_of

FIELDS = st.text(
    st.characters(codec="ascii", categories=("L", "N", "P"), exclude_characters="=!<>"), min_size=1
)
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"))


# --- conditions -----------------------------------------------------------------------------------------


@given(FIELDS, st.sampled_from(["in", "not in"]), st.lists(VALUES, min_size=1, max_size=4))
@example("0", "in", ["=x", "=x"])
def test_a_condition_on_values_reads_back_from_its_text(field: str, op: str, values: list[str]) -> None:
    condition = Condition(field, op, tuple(values))
    assert parse_condition(str(condition)) == condition


@given(FIELDS, st.sampled_from(["<", "<=", ">", ">="]), st.floats(allow_nan=False))
def test_a_comparison_reads_back_from_its_text(field: str, op: str, value: float) -> None:
    condition = Condition(field, op, (value,))
    assert parse_condition(str(condition)) == condition


@given(FIELDS, st.sampled_from(["missing", "not missing"]))
def test_a_test_for_missing_values_reads_back_from_its_text(field: str, op: str) -> None:
    assert parse_condition(str(Condition(field, op))) == Condition(field, op)


@pytest.mark.parametrize(
    ("text", "field", "op", "values"),
    [
        ("tissue=blood,lung", "tissue", "in", ("blood", "lung")),
        ("tissue == blood", "tissue", "in", ("blood",)),
        ("tissue != blood , lung", "tissue", "not in", ("blood", "lung")),
        ("tissue=blood, lung", "tissue", "in", ("blood", "lung")),
        ('cell type="T cell, CD4+",B cell', "cell type", "in", ("T cell, CD4+", "B cell")),
        ("note=what is missing", "note", "in", ("what is missing",)),
        ("age >= 40", "age", ">=", (40.0,)),
        ("score<-1e-3", "score", "<", (-0.001,)),
        ("disease IS NOT missing", "disease", "not missing", ()),
        ("a=b=c", "a", "in", ("b=c",)),
        ('tissue=""', "tissue", "in", ("",)),
    ],
)
def test_conditions_are_read_as_a_person_means_them(text: str, field: str, op: str, values: Any) -> None:
    assert parse_condition(text) == Condition(field, op, values)


@pytest.mark.parametrize("text", ["", "tissue", "=blood", "tissue=", "age>old", "age>", 'a="b', 'a="b"c'])
def test_a_text_that_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="where"):
        parse_condition(text)


def test_a_filter_is_a_mapping_a_list_or_a_text() -> None:
    mapping = {
        "tissue": ["blood", "lung"],
        "disease": not_in("normal"),
        "age": ge(40),
        "dead": False,
        "n": np.int64(3),
        "x": np.array([1.5, 2.5]),
        "sex": is_missing(),
        "donor": is_missing(False),
    }
    assert [str(condition) for condition in conditions(mapping)] == [
        "tissue=blood,lung",
        "disease!=normal",
        "age>=40",
        "dead=False",
        "n=3",
        "x=1.5,2.5",
        "sex is missing",
        "donor is not missing",
    ]
    assert type(conditions({"n": np.int64(3)})[0].values[0]) is int
    assert conditions(["age>=40", Condition("age", "<", (50,))])[1].op == "<"
    assert conditions("age>=40") == conditions({"age": ge(40.0)})
    assert conditions(None) == ()
    assert [c.op for c in conditions({"a": lt(1), "b": le(1), "c": gt(1)})] == ["<", "<=", ">"]


@pytest.mark.parametrize(
    "where",
    [{"a": None}, {"a": []}, {"a": [None]}, {"a": gt("b")}, {"a": gt(True)}, {"a": b"x"}, {"a": [{}]}],
)
def test_a_filter_that_means_nothing_is_refused(where: Any) -> None:
    with pytest.raises(InvalidArgument, match="where 'a'"):
        conditions(where)


def test_an_operator_takes_what_it_can_use() -> None:
    for op, values in (("like", ("x",)), ("in", ()), ("missing", ("x",)), ("<", (1, 2))):
        with pytest.raises(InvalidArgument):
            Condition("a", op, values)


# --- hit rules ------------------------------------------------------------------------------------------


@given(st.sampled_from(["percentile", "quantile", "value", "zscore"]), st.floats(0, 1))
def test_a_hit_rule_reads_back_from_its_text(kind: str, value: float) -> None:
    assert HitRule.parse(str(HitRule(kind, value))) == HitRule(kind, value)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (HitRule(), "percentile:95"),
        (HitRule.percentile(99.5), "percentile:99.5"),
        (HitRule.quantile(0.9), "quantile:0.9"),
        (HitRule.above(0.1234567891), "value:0.1234567891"),
        (HitRule.zscore(-1), "zscore:-1"),
        (HitRule.top(1_000_000), "top:1000000"),
    ],
)
def test_a_hit_rule_is_written_in_full(rule: HitRule, text: str) -> None:
    assert str(rule) == text
    assert HitRule.parse(text) == rule


@pytest.mark.parametrize(
    "text",
    ["", "95", "percentile", "percentile:x", "percentile:101", "quantile:2", "top:0", "top:1.5", "value:nan"],
)
def test_a_hit_rule_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="hits"):
        HitRule.parse(text)


# --- signatures -----------------------------------------------------------------------------------------


def test_a_signature_is_a_list_a_mapping_or_a_text() -> None:
    assert Signature.of(["CD14", " LYZ ", "CD14"]).weights == {"CD14": 1.0, "LYZ": 1.0}
    assert Signature.of({"CD14": 2, "CD3E": -1}).genes == ("CD14", "CD3E")
    assert Signature.parse("CD14, LYZ:2 ,CD3E:-0.5,").weights == {"CD14": 1.0, "LYZ": 2.0, "CD3E": -0.5}
    signature = Signature.of(("A",), "name")
    assert Signature.of(signature) is signature
    assert (len(signature), signature.name) == (1, "name")


@pytest.mark.parametrize("genes", [[], "CD14", {"A": math.nan}, {"A": 0}, [""], {"A": math.inf}])
def test_a_signature_that_scores_nothing_is_refused(genes: Any) -> None:
    with pytest.raises(InvalidSignature):
        Signature.of(genes)


@pytest.mark.parametrize("text", ["", ",,", "A:b", ":2", "A:nan"])
def test_a_gene_list_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidSignature):
        Signature.parse(text)


def test_a_gmt_file_is_read_plain_or_compressed(tmp_path: Path) -> None:
    text = "# comment\nS1\turl\tA\tB\t\n\nS2\t\tC\n"
    plain, packed = tmp_path / "x.gmt", tmp_path / "x.gmt.gz"
    plain.write_text("\ufeff" + text)
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):
        sets = read_gmt(path)
        assert {name: s.genes for name, s in sets.items()} == {"S1": ("A", "B"), "S2": ("C",)}
        assert sets["S1"].name == "S1"


def test_a_gmt_file_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    path = tmp_path / "x.gmt.gz"
    good = gzip.compress(b"S\tu\tA\n" * 1)
    for content in (b"", b"no gzip", good[:-4], good[:12] + b"\xff\xff\xff" + good[15:]):
        path.write_bytes(content)
        with pytest.raises(InvalidSignature, match=r"x\.gmt\.gz"):
            read_gmt(path)
    plain = tmp_path / "x.gmt"
    for text, problem in (
        ("S\tu\n", "line 1: 'S' has no genes"),
        ("S\tu\tA\nS\tu\tB\n", "repeats"),
        ("#\n", "no signature"),
    ):
        plain.write_text(text)
        with pytest.raises(InvalidSignature, match=problem):
            read_gmt(plain)
    with pytest.raises(InvalidSignature):
        read_gmt(tmp_path / "absent.gmt")


# --- requests -------------------------------------------------------------------------------------------


def test_a_request_has_the_defaults_of_the_documentation() -> None:
    request = SearchRequest.of(["A"])
    assert (request.k, request.group_by, str(request.hits)) == (100, ("study",), "percentile:95")
    assert (request.aggregate, request.min_cells, request.min_coverage) == ("mean", 10, 0.0)
    assert SearchRequest.of(["A"], group_by="tissue").group_by == ("tissue",)


@pytest.mark.parametrize(
    "wrong",
    [{"k": -1}, {"aggregate": "max"}, {"min_cells": 0}, {"min_coverage": 1.5}, {"group_by": ("a", "a")}],
)
def test_a_request_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        SearchRequest.of(["A"], **wrong)


def test_a_cell_is_named_by_study_and_cell_id() -> None:
    assert CellId.of("s:a:b") == ("s", "a:b") == CellId.of(("s", "a:b"))
    with pytest.raises(InvalidArgument):
        CellId.of("s")


@pytest.mark.parametrize(
    ("text", "contrast"),
    [
        ("disease=lupus:normal", Contrast("disease", "lupus", "normal")),
        ("cell type = B cell : T cell", Contrast("cell type", "B cell", "T cell")),
        ('id="CL:0000236":"CL:0000084"', Contrast("id", "CL:0000236", "CL:0000084")),
        ('note="say ""hi""":no', Contrast("note", 'say "hi"', "no")),
        ("age=1:2", Contrast("age", "1", "2")),
    ],
)
def test_a_contrast_is_read_from_its_text_and_written_again(text: str, contrast: Contrast) -> None:
    assert Contrast.parse(text) == contrast
    assert Contrast.parse(str(contrast)) == contrast


@given(st.text('ab ,:"=\n\r', min_size=1), st.text('ab ,:"=\n\r', min_size=1))
def test_a_contrast_of_any_values_reads_back_from_its_text(value: str, reference: str) -> None:
    if value != reference:
        contrast = Contrast("f", value, reference)
        assert Contrast.parse(str(contrast)) == contrast


@pytest.mark.parametrize(
    "text",
    ["", "a", "a=b", "a=b:", "a=:b", "=b:c", "a=b:c:d", "a=b:b", "a:b", 'a="b:c', 'a="b"c:d', "a=b\rc:d"],
)
def test_a_text_that_is_no_contrast_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="contrast"):
        Contrast.parse(text)


def test_a_request_takes_one_contrast_or_several() -> None:
    one, other = Contrast("a", "b", "c"), Contrast("a", "c", "d")
    assert SearchRequest.of(["G"], contrasts="a=b:c").contrasts == (one,)
    assert SearchRequest.of(["G"], contrasts=one).contrasts == (one,)
    assert SearchRequest.of(["G"], contrasts=[one, "a=c:d"]).contrasts == (one, other)
    assert SearchRequest.of(["G"]).has_tests is False
    assert SearchRequest.of(["G"], compare=True).has_tests is True


def test_no_field_of_groups_is_named_as_a_column_of_the_result() -> None:
    for field, options in (("n_cells", {}), ("null_p", {}), ("p", {"compare": True})):
        with pytest.raises(InvalidArgument, match=f"column '{field}' of its own"):
            SearchRequest.of(["A"], group_by=["study", field], **options)
    assert SearchRequest.of(["A"], group_by="p").group_by == ("p",)
    for field in ("signature", "mean"):
        with pytest.raises(InvalidArgument, match=f"column '{field}' of its own"):
            ScreenRequest.of(group_by=field)
    with pytest.raises(InvalidArgument, match="column 'sd' of its own"):
        SimilarRequest.of("A:c0", group_by="sd")


def test_a_gene_that_stands_twice_has_one_weight() -> None:
    assert Signature.parse("A,A,B:2,B:2").weights == {"A": 1.0, "B": 2.0}
    for text in ("A:2,A:-3", "A,A:-1", "A:2,B,A"):
        with pytest.raises(InvalidSignature, match="gene 'A' stands twice, with the weights"):
            Signature.parse(text)
    with pytest.raises(InvalidSignature, match="stands twice"):
        Signature.of({"A": 1.0, " A": 2.0})


@pytest.mark.parametrize("hits", [0.95, 0, 95, ["top:3"]])
def test_a_number_is_no_hit_rule(hits: Any) -> None:
    for make in (
        lambda: SearchRequest.of(["A"], hits=hits),
        lambda: ScreenRequest.of(hits=hits),
        lambda: SimilarRequest.of("a:b", hits=hits),
    ):
        with pytest.raises(InvalidArgument, match=r"hits: .* is no rule"):
            make()


def test_a_name_that_is_no_text_is_refused_and_can_be_told_of() -> None:
    with pytest.raises(InvalidSignature, match="not Unicode") as caught:
        Signature({"A": 1.0}, "x\ud800")
    assert str(caught.value).encode()
    with pytest.raises(InvalidSignature, match="not a gene name"):
        Signature({"A\ud800": 1.0})
    good, bad = signatures_of([Signature({"A": 1.0}, "é"), 5])
    assert (good.name, type(bad).__name__) == ("é", "SkippedSignature")
    assert [item.name for item in signatures_of({5: ["A"], None: ["B"], 6: []})] == ["5", "signature", "6"]
    (skipped_one,) = signatures_of({"J\ud800": ["A"]})
    assert skipped_one.name == "J\\ud800"
