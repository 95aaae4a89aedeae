"""What gene names mean to a vocabulary, rule by rule, and what an atlas says of them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insignia_index import Atlas, Signature
from insignia_index.genes import suggest
from insignia_index.genes.report import report_of
from insignia_index.genes.resolver import Found, Resolver
from insignia_index.genes.table import GeneNames, GeneTable, human, without_version
from insignia_model.errors import InexactGenes, InvalidSignature, NoGeneResolved

from .made import build, study

TABLE = GeneTable.of(
    [
        GeneNames("RIPOR2", "ENSG00000111913", ("C6orf32", "FAM65B"), ("DIFF48", "p40")),
        GeneNames("TP53", "ENSG00000141510", (), ("p53", "LFS1")),
        GeneNames("AIMP2", "ENSG00000106305", (), ("p38", "p40")),
        GeneNames("MIA2", "ENSG00000150527", ("CTAGE5",), ("MEA6",)),
        GeneNames("GK2", "ENSG00000196475", (), ("GKP2",)),
        GeneNames("GALK2", "ENSG00000156958", (), ("GK2",)),
        GeneNames("QARS1", "ENSG00000172053", ("QARS",)),
        GeneNames("EPRS1", "ENSG00000136628", ("EPRS", "QARS")),
        GeneNames("MBL2", "ENSG00000165471", (), ("MBP",)),
        GeneNames("MBP", "ENSG00000197971"),
        GeneNames("SLURP1", "ENSG00000126233", (), ("ArsB",)),
        GeneNames("ARSB", "ENSG00000113273"),
        GeneNames("TAFAZZIN", "ENSG00000102125", ("TAZ",)),
        GeneNames("WWTR1", "ENSG00000018408", (), ("TAZ",)),
        GeneNames("C1orf112", "ENSG00000000460", ("OLD1", "OLD2")),
        GeneNames("NOID", "", ("OLDNOID",)),
    ]
)


def found(vocabulary: str, name: str) -> Found:
    return Resolver({gene: i for i, gene in enumerate(vocabulary.split())}, TABLE).find(name)


@pytest.mark.parametrize(
    ("vocabulary", "name", "used", "how"),
    [
        ("RIPOR2", "RIPOR2", "RIPOR2", "exact"),
        ("RIPOR2", "ripor2", "RIPOR2", "case"),
        ("RIPOR2", "FAM65B", "RIPOR2", "previous"),
        ("RIPOR2", "fam65b", "RIPOR2", "previous"),
        ("RIPOR2", "C6ORF32", "RIPOR2", "previous"),
        ("RIPOR2", "DIFF48", "RIPOR2", "alias"),
        ("RIPOR2", "ENSG00000111913", "RIPOR2", "ensembl"),
        ("RIPOR2", "ensg00000111913.17", "RIPOR2", "ensembl"),
        ("TP53", "P53", "TP53", "alias"),
        # the vocabulary is old
        ("FAM65B", "RIPOR2", "FAM65B", "previous"),
        ("FAM65B", "ripor2", "FAM65B", "previous"),
        ("FAM65B", "C6orf32", "FAM65B", "previous"),
        ("FAM65B", "DIFF48", "FAM65B", "alias"),
        ("FAM65B", "ENSG00000111913.2", "FAM65B", "ensembl"),
        ("DIFF48", "RIPOR2", "DIFF48", "alias"),
        ("OLDNOID", "NOID", "OLDNOID", "previous"),
        # or in capitals
        ("C1ORF112", "C1orf112", "C1ORF112", "case"),
        ("C6ORF32", "RIPOR2", "C6ORF32", "previous"),
        # or made of Ensembl ids
        ("ENSG00000111913", "RIPOR2", "ENSG00000111913", "ensembl"),
        ("ENSG00000111913.17", "RIPOR2", "ENSG00000111913.17", "ensembl"),
        ("ENSG00000111913.17", "FAM65B", "ENSG00000111913.17", "previous"),
        ("ENSG00000111913.17", "DIFF48", "ENSG00000111913.17", "alias"),
        ("ENSG00000111913.17", "ENSG00000111913", "ENSG00000111913.17", "ensembl"),
        ("ENSG00000111913", "ENSG00000111913.4", "ENSG00000111913", "ensembl"),
        ("ENSG00000999999.2", "ENSG00000999999.4", "ENSG00000999999.2", "ensembl"),
        # the symbol of the vocabulary wins, whatever else it may mean
        ("MBP MBL2", "MBP", "MBP", "exact"),
        ("GK2 GALK2", "GK2", "GK2", "exact"),
        ("MIA2 CTAGE5", "CTAGE5", "CTAGE5", "exact"),
        ("MIA2 CTAGE5", "MEA6", "MIA2", "alias"),
        # an approved symbol means its gene where no other one can be meant
        ("GKP2", "GK2", "GKP2", "alias"),
        # TAZ was the symbol of TAFAZZIN, and WWTR1 is there by its own
        ("TAZ WWTR1", "TAFAZZIN", "TAZ", "previous"),
        ("EPRS QARS", "EPRS1", "EPRS", "previous"),
    ],
)
def test_a_name_that_can_mean_one_gene_only(vocabulary: str, name: str, used: str, how: str) -> None:
    assert found(vocabulary, name)[:3] == (used, how, ())


@pytest.mark.parametrize(
    ("vocabulary", "name", "candidates"),
    [
        ("RIPOR2 AIMP2", "p40", {"RIPOR2", "AIMP2"}),
        ("RIPOR2", "p40", {"RIPOR2"}),  # AIMP2 may be meant
        ("GALK2", "GK2", {"GALK2"}),  # the approved GK2 may be meant
        ("GKP2 GALK2", "GK2", {"GKP2", "GALK2"}),
        ("QARS", "QARS1", {"QARS"}),  # it was also called EPRS1's
        ("QARS EPRS", "QARS1", {"QARS"}),
        ("TAZ", "TAFAZZIN", {"TAZ"}),  # or WWTR1
        ("OLD1 OLD2", "C1orf112", {"OLD1", "OLD2"}),
        ("Abc ABC", "abc", {"Abc", "ABC"}),
        ("ARSB", "ArsB", {"ARSB"}),
        ("ArsB", "ARSB", {"ArsB"}),
        ("ARSB SLURP1", "ArsB", {"ARSB", "SLURP1"}),
        ("ENSG00000111913.1 ENSG00000111913.2", "ENSG00000111913", None),
        ("ENSG00000111913.1 ENSG00000111913.2", "RIPOR2", None),
    ],
)
def test_a_name_that_can_mean_several_is_not_used(
    vocabulary: str, name: str, candidates: set[str] | None
) -> None:
    answer = found(vocabulary, name)
    assert answer.used is None
    assert set(answer.candidates) == (set(vocabulary.split()) if candidates is None else candidates)


@pytest.mark.parametrize(
    ("vocabulary", "name", "is_known"),
    [("TP53", "RIPOR2", True), ("TP53", "TPX53", False), ("MBP", "MBL2", True), ("ARSB", "SLURP1", True)],
)
def test_a_gene_that_the_vocabulary_lacks_is_not_a_misspelling(
    vocabulary: str, name: str, is_known: bool
) -> None:
    assert found(vocabulary, name) == Found(is_known=is_known)


@given(st.permutations([gene.symbol for gene in map(TABLE.__getitem__, range(len(TABLE)))]), st.data())
def test_no_name_leads_to_a_gene_that_does_not_have_it(symbols: list[str], data: st.DataObject) -> None:
    """Whatever the vocabulary: what is used is a name of a gene that has the asked name."""
    every = [n for g in range(len(TABLE)) for n in (TABLE[g].symbol, *TABLE[g].previous, *TABLE[g].aliases)]
    vocabulary = dict.fromkeys([*symbols[:4], *data.draw(st.lists(st.sampled_from(every), max_size=5))])
    resolver = Resolver({name: i for i, name in enumerate(vocabulary)}, TABLE)
    for name in every:
        answer = resolver.find(name)
        assert (name in vocabulary) == (answer.how == "exact")
        if answer.used is not None and answer.how != "exact":
            assert set(TABLE.genes_of(name)) & set(TABLE.genes_of(answer.used))
            assert not answer.candidates
        assert answer == resolver.find(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HLA.DRA", ("HLA-DRA",)),
        ("HLADRA", ("HLA-DRA",)),
        ("IFTI1", ("IFIT1",)),
        ("IFIT11", ("IFIT1",)),
        ("CD144", ("CD14",)),
        ("LINC01235", ()),  # another number is another gene
        ("LNC01234", ("LINC01234",)),
        ("SOMETHINGELSE", ()),
        ("X", ()),
        ("-", ()),
    ],
)
def test_a_misspelling_gets_suggestions(name: str, expected: tuple[str, ...]) -> None:
    speller = suggest.Speller(["HLA-DRA", "HLA-DRB1", "IFIT1", "CD14", "LINC01234", "TP53"])
    assert speller.suggest(name) == expected


def test_a_text_that_is_longer_than_any_symbol_is_not_compared_with_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speller = suggest.Speller(["HLA-DRA", "CD14", "LINC01234"])
    assert speller.suggest("LINC01234AA") == ("LINC01234",)
    monkeypatch.setattr("rapidfuzz.process.extract", None)
    assert speller.suggest("LINC01234AAA") == speller.suggest("A" * 10_000_000) == ()


def test_suggestions_for_ensembl_ids_are_symbols_and_not_for_all_of_thousands_of_names() -> None:
    resolver = Resolver({"ENSG00000111913.17": 0, "ENSG00000141510": 1}, TABLE)
    report = report_of(["TP533", *(f"RIPORX{i}" for i in range(200))], None, resolver)
    assert report.suggestions["TP533"] == ("TP53",)
    assert report.suggestions["RIPORX2"] == ("RIPOR2",)
    assert len(report.missing) == 201
    assert len(report.suggestions) <= suggest.MOST_NAMES


def test_the_human_table_is_what_it_says() -> None:
    table = human()
    assert len(table) == 44_997
    (gene,) = table.genes_of("FAM65B")
    assert table[gene] == GeneNames(
        "RIPOR2", "ENSG00000111913", ("C6orf32", "FAM65B"), ("KIAA0386", "DIFF48", "MYONAP")
    )
    assert GeneTable.unpack(table.pack("where from"))[gene] == table[gene]
    with pytest.raises(ValueError, match="no gene table"):
        GeneTable.unpack(table.pack()[:1000])


def test_versions_are_cut_off_ensembl_ids_only() -> None:
    assert without_version("ENSG00000141510.16") == "ENSG00000141510"
    assert without_version("ensmusg00000059552.3") == "ENSMUSG00000059552"
    for name in ("TP53.1", "ENSG0000014151", "ENSG00000182378.14_PAR_Y", "RP11-295G20.2", "ENSG00000141510."):
        assert without_version(name) is None


GENES = ["RIPOR2", "TP53", "CD14", "LYZ", "CYR61", "CCNA2"]


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Atlas]:
    made = [study("A", 30, GENES), study("B", 11, ["CD14", "LYZ"])]
    with Atlas.open(build(tmp_path_factory.mktemp("genes"), made)) as opened:
        yield opened


def test_an_answer_has_the_full_account(atlas: Atlas) -> None:
    asked = {"FAM65B": 1.0, "cd14": 2.0, "CCN1": -4.0, "nope1234": 1.0, "LYZ": 1.0, "INS": 0.5, "LYZZ": 0.5}
    report = atlas.search(asked).genes
    assert report == atlas.scores(asked).genes == atlas.iter_scores(asked).genes
    assert report.resolved == {"FAM65B": "RIPOR2", "cd14": "CD14", "LYZ": "LYZ"}
    assert report.inexact == {"FAM65B": "previous", "cd14": "case"}
    assert report.ambiguous == {"CCN1": ("CYR61", "CCNA2")}
    assert report.missing == ("nope1234", "INS", "LYZZ")
    assert report.suggestions == {"LYZZ": ("LYZ",)}
    assert report.duplicates == {}
    assert report.weight_coverage == pytest.approx(0.4)
    assert report.n_genes_measured == {"A": 3, "B": 2}
    np.testing.assert_array_equal(
        atlas.scores(asked).values, atlas.scores({"RIPOR2": 1.0, "CD14": 2.0, "LYZ": 1.0}).values
    )
    plain = atlas.genes(asked)
    assert plain.weight_coverage == pytest.approx(3 / 7)
    assert plain.resolved == report.resolved
    assert atlas.genes(GENES).n_genes_measured == {"A": 6, "B": 2}
    assert atlas.genes([]).weight_coverage == 1
    assert atlas.genes(["nope"]).n_genes_measured == {"A": 0, "B": 0}


def test_two_names_of_one_gene_count_once(atlas: Atlas) -> None:
    twice = atlas.scores(["FAM65B", "CD14", "RIPOR2", "ENSG00000111913.2"])
    np.testing.assert_array_equal(twice.values, atlas.scores(["RIPOR2", "CD14"]).values)
    assert twice.genes.duplicates == {"RIPOR2": ("FAM65B", "RIPOR2", "ENSG00000111913.2")}
    assert twice.genes.n_genes == 2
    assert twice.genes.weight_coverage == 1
    assert atlas.search(["FAM65B", "CD14", "RIPOR2"]).group_table["n_genes_measured"].to_list() == [2, 1]
    weighted = atlas.scores({"FAM65B": -2.0, "CD14": 1.0, "RIPOR2": -2.0})
    np.testing.assert_array_equal(weighted.values, atlas.scores({"RIPOR2": -2.0, "CD14": 1.0}).values)
    with pytest.raises(InvalidSignature, match=r"'FAM65B' and 'RIPOR2' both mean RIPOR2.* 1 and 2"):
        atlas.search(Signature({"FAM65B": 1.0, "RIPOR2": 2.0}))


def test_strict_refuses_anything_but_exact_symbols(atlas: Atlas) -> None:
    for ask in (atlas.search, atlas.scores, atlas.iter_scores, atlas.genes):
        ask(["CD14", "LYZ"], strict=True)  # type: ignore[operator]
        with pytest.raises(InexactGenes) as caught:
            ask(["CD14", "FAM65B", "CCN1", "INS"], strict=True)  # type: ignore[operator]
        assert "3 of the gene names" in str(caught.value)
        for part in (
            "FAM65B (used as RIPOR2 (previous symbol))",
            "CCN1 (may mean CYR61 or CCNA2)",
            "INS (not in",
        ):
            assert part in str(caught.value)
    with pytest.raises(InexactGenes):
        atlas.search(["nope"], strict=True)


def test_nothing_but_ambiguous_names_is_no_gene(atlas: Atlas) -> None:
    with pytest.raises(NoGeneResolved, match=r"used: CCN1 \(may mean CYR61 or CCNA2\);"):
        atlas.search(["CCN1"])
    with pytest.raises(NoGeneResolved, match=r"CYR61 \(has weight 0\); CCN1 \(may mean.*; nope \(not in the"):
        atlas.search({"CYR61": 0.0, "CCN1": 1.0, "nope": 1.0})


def test_exact_names_do_not_load_the_table(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 12, ["CD14", "LYZ"])])
    code = f"""
import sys
from insignia_index import Atlas
from insignia_index.genes.table import human
with Atlas.open({str(path)!r}) as atlas:
    atlas.search(["CD14", "LYZ"]), atlas.scores(["LYZ"]), atlas.genes(["LYZ"])
    assert human.cache_info().currsize == 0
    assert atlas.search(["cd14"]).genes.resolved == {{"cd14": "CD14"}}
    assert human.cache_info().currsize == 1
    assert "rapidfuzz" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
