"""Signatures in: every format, what is told about it, and what is refused where."""

from __future__ import annotations

import gzip
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insignia_model import DeRule, read_signatures
from insignia_model.errors import InvalidArgument, InvalidSignature

DATA = Path(os.environ.get("INSIGNIA_DATA", "no folder")) / "signatures"
DESEQ2 = """"","baseMean","log2FoldChange","lfcSE","stat","pvalue","padj"
"A",10,2.5,0.1,20,1e-9,0.001
"B",10,-3,0.1,20,1e-9,0.01
"C",0.1,20,9,2,0.04,NA
"D",10,0.2,0.1,2,0.01,0.05
"E",10,1,0.1,2,0.4,0.5
"""
EDGER = "logFC\tlogCPM\tF\tPValue\tFDR\nA\t2\t1\t9\t0.001\t0.01\nB\t-1\t1\t9\t0.001\t0.02\n"
LIMMA = (
    '"ID","logFC","AveExpr","t","P.Value","adj.P.Val","B"\n"A",2,1,1,0.001,0.01,1\n"B",-1,1,1,0.001,0.02,1\n'
)
SEURAT = """"","p_val","avg_log2FC","pct.1","pct.2","p_val_adj","cluster","gene"
"A",0,2,1,0.1,0,"0","A"
"A.1",0,1,1,0.1,0,"1","A"
"B",0,-1,1,0.1,0,"1","B"
"C",1,-1,1,0.1,1,"2","C"
"""
SCANPY = ",group,names,scores,logfoldchanges,pvals,pvals_adj\n0,T,A,9,2,0,0\n1,T,B,9,-1,0,0\n2,NK,C,9,1,0,0\n"


def read(text: str, **options: Any) -> dict[str, dict[str, float]]:
    return {name: dict(s.weights) for name, s in read_signatures(io.StringIO(text), **options).items()}


def lone(text: str, **options: Any) -> dict[str, float]:
    (weights,) = read(text, **options).values()
    return weights


@pytest.mark.parametrize(
    "text",
    ["A\nB\n", "# note\nA\n\nB", "gene\nA\nB", "A,B", "A;B", "A B", "A\r\nB\r\n", "A,1\nB,1",
     "Symbol,Weight\nA,1\nB,1.0",
     "weight\tgene\n1\tA\n1\tB", '["A", "B"]', '{"A": 1, "B": 1.0}',
     '{"S": ["A", "B"]}', '{"S": {"A": 1, "B": 1}}',
     '{"S": {"geneSymbols": ["A", "B"], "pmid": "1"}}', "S\turl\tA\tB", "x\nA,1\nB,1"[2:], "S\tu\tA,1\tB"],
)  # fmt: skip
def test_every_format_of_the_same_signature_gives_it(text: str) -> None:
    assert lone(text) == {"A": 1, "B": 1}


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9]{1,5}", fullmatch=True), st.floats(-9, 9).filter(bool), min_size=2
    )
)
def test_weights_come_back_from_csv_tsv_and_json(weights: dict[str, float]) -> None:
    rows = [f"{gene}{{}}{weight!r}" for gene, weight in weights.items()]
    for text in (
        "\n".join(rows).format(*[","] * len(rows)),
        "gene\tweight\n" + "\n".join(r.format("\t") for r in rows),
    ):
        if "{}" not in text:
            assert lone(text, header=None if text.startswith("gene") else False, format="table") == weights
    assert lone(json.dumps({"S": weights})) == weights


def test_a_column_with_the_set_gives_several_and_columns_can_be_told() -> None:
    text = "program,symbol,loading\nP1,A,2\nP2,A,1\nP1,B,-1\n"
    assert read(text) == {"P1": {"A": 2, "B": -1}, "P2": {"A": 1}}
    assert lone("x,y,z\n1,2,A\n3,4,B\n", columns={"gene": "z", "weight": 2}) == {"A": 2, "B": 4}
    assert lone("x,y\nA,B\n", columns={"gene": "y"}) == {"B": 1}
    assert lone("A,7,9\nB,8,9\n", columns={"gene": 1, "weight": "3"}) == {"A": 9, "B": 9}
    assert lone("gs,gene_symbol,entrez\nS,A,3\n", columns={"weight": None}) == {"A": 1}
    assert lone("gene,logFC\nA,2\n") == {"A": 2}


@pytest.mark.parametrize("text", [DESEQ2, EDGER, LIMMA])
def test_differential_expression_is_known_by_its_columns(text: str) -> None:
    assert {gene: lone(text)[gene] for gene in "AB"} == {"A": 1, "B": -1}


def test_clusters_of_differential_expression_are_sets() -> None:
    assert read(SEURAT) == {"0": {"A": 1}, "1": {"A": 1, "B": -1}}
    notes = read_signatures(io.StringIO(SEURAT)).notes
    assert notes == ("no gene passes adjusted p ≤ 0.05 in 1 of 3 sets: 2",)
    assert read(SCANPY) == {"T": {"A": 1, "B": -1}, "NK": {"C": 1}}


@pytest.mark.parametrize(
    ("rule", "genes"),
    [
        (DeRule(), {"A": 1, "B": -1, "D": 1}),
        (DeRule(weight="lfc"), {"A": 2.5, "B": -3, "D": 0.2}),
        (DeRule(max_padj=0.01), {"A": 1, "B": -1}),
        (DeRule(min_lfc=1), {"A": 1, "B": -1}),
        (DeRule(top=1), {"A": 1}),
        (DeRule(direction="up"), {"A": 1, "D": 1}),
        (DeRule(direction="down", weight="lfc"), {"B": 3}),
        (DeRule(max_padj=None, top=4), {"A": 1, "B": -1, "D": 1, "E": 1}),
        (DeRule(max_padj=None, min_lfc=10), {"C": 1}),
    ],
)
def test_cut_offs_choose_the_genes(rule: DeRule, genes: dict[str, float]) -> None:
    assert lone(DESEQ2, de=rule) == genes


def test_of_several_rows_of_a_gene_the_strongest_counts_and_is_told() -> None:
    text = "gene,logFC,FDR\nA,1,0.04\nA,-2,0.01\n,5,0\nA,3,0.01\n"
    found = read_signatures(io.StringIO(text), de=DeRule(weight="lfc"))
    assert dict(found["signature"].weights) == {"A": 3}
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_padj": 2},
        {"min_lfc": -1},
        {"top": 0},
        {"weight": "x"},
        {"direction": "x"},
        {"min_lfc": float("nan")},
    ],
)
def test_a_rule_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        DeRule(**wrong)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("gene,weight\n", "no rows"),
        ("A,1\nB,x\n", "line 2, column 2: 'x' is no weight"),
        ("gene,weight\nA,1\n,2\n", "line 3: no gene in column 1"),
        ("gene,weight\nA,1\nA,2\n", "line 3: gene 'A' stood before with the weight 1"),
        ("gene,x,y\nA,1,2\n", "which column is the weight"),
        ("gene,logFC,PValue\nA,1,2\n", "only unadjusted p"),
        ("A,1,2\nB,1,2\n", "columns 1 to 3"),
        ("gene,gene,weight\nA,B,1\n", "'gene' (1) and 'gene' (2)"),
        ("gene,logFC,padj\nA,1,0.5\n", "none of 1 genes passes adjusted p ≤ 0.05"),
        ("gene,logFC,padj\nA,1,5\n", "line 2: column 3: 5 is no adjusted p"),
        ("gene,logFC,padj\nA,x,0\n", "line 2: column 2: 'x' is no finite number"),
        ('{"A":}', "line 1: is no JSON: column 6"),
        ('{"A": ["B"], "A": ["C"]}', "'A' stands twice"),
        ('["A", 3]', "'signature'[1] is 3.0, not a gene name"),
        ('{"S": {"A": "x"}}', "'S'['A'] is the text 'x', not a weight"),
        ("[]", "has no genes"),
        ('{"S": 3, "T": ["A"]}', "'S' is 3.0"),
        ("S\tu\tA,x\tB,2", "'A,x' in 'S' is not GENE or GENE,WEIGHT"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, says: str) -> None:
    with pytest.raises(InvalidSignature) as error:
        read(text)
    assert "open file" in str(error.value)
    assert says in str(error.value)


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="format"):
        read("A", format="xml")
    with pytest.raises(InvalidSignature, match="has no column 'z'"):
        read("gene\nA", columns={"gene": "z"})
    with pytest.raises(InvalidSignature, match="role"):
        read("gene\nA", columns={"genes": "gene"})
    with pytest.raises(InvalidSignature, match="read as gmt"):
        read("S\tu\tA", format="gmt", de=DeRule())
    with pytest.raises(InvalidSignature, match="no column of log fold change and adjusted p"):
        read("gene\tx\nA\t1", de=DeRule())
    with pytest.raises(InvalidSignature, match="save the sheet as CSV"):
        read_signatures(tmp_path / "x.xlsx")


def test_lenient_reading_rejects_bad_sets_and_keeps_the_others() -> None:
    found = read_signatures(io.StringIO("X\tu\nY\tu\tA\nY\tu\tB\n"), format="gmt", lenient=True)
    assert {name: s.genes for name, s in found.items()} == {"Y": ("A",)}
    assert list(found.rejected) == ["X", "Y (line 3)"]
    assert "line 1: 'X' has no genes" in found.rejected["X"]
    weights = read_signatures(io.StringIO('{"S": {"A": 0}, "T": {"B": 1}}'), lenient=True)
    assert (list(weights), list(weights.rejected)) == (["T"], ["S"])


def test_up_and_down_become_one_signed_signature() -> None:
    text = (
        "X_UP\tu\tA\tB\nX_DN\tu\tC\tB\nY_UP\tu\tA\nZ\tu\tQ\nv_down\tu\tA\nv_up\tu\tB\n"
        "W_UP\tu\tA\nW_DN\tu\tA\n"
    )
    found = read_signatures(io.StringIO(text), join_up_down=True)
    assert {name: dict(s.weights) for name, s in found.items()} == {
        "X": {"A": 1, "C": -1},
        "Y_UP": {"A": 1},
        "Z": {"Q": 1},
        "v": {"B": 1, "A": -1},
        "W_UP": {"A": 1},
        "W_DN": {"A": 1},
    }
    notes = " | ".join(found.notes)
    for part in ("2 pairs", "without a partner stay as they are: Y_UP", "W_UP, W_DN", "X (1)"):
        assert part in notes
    assert "no pair" in read_signatures(io.StringIO("A"), join_up_down=True).notes[0]


def test_files_are_read_by_suffix_and_by_content(tmp_path: Path, monkeypatch: Any) -> None:
    csv, packed = tmp_path / "mine.csv", tmp_path / "mine.json.gz"
    csv.write_bytes(b"\xef\xbb\xbfgene;weight\nA;1\n")
    packed.write_bytes(gzip.compress(b'["A"]'))
    for file in (csv, str(csv), packed, csv.open("rb"), packed.open("rb")):
        assert {name: s.genes for name, s in read_signatures(file).items()} == {"mine": ("A",)}
        if hasattr(file, "close"):
            file.close()
    assert list(read_signatures(csv, name="other")) == ["other"]

    class Stdin:
        buffer = io.BytesIO(gzip.compress(b"S\tu\tA\tB\n"))

    monkeypatch.setattr("sys.stdin", Stdin)
    assert read_signatures("-")["S"].genes == ("A", "B")


@pytest.mark.skipif(not DATA.is_dir(), reason="INSIGNIA_DATA has no folder signatures")
def test_all_of_msigdb_loads_in_three_seconds_and_its_pairs_join() -> None:
    began = time.perf_counter()
    sets = {file.name: read_signatures(file) for file in sorted(DATA.glob("msigdb*.gmt*"))}
    took = time.perf_counter() - began
    assert sum(map(len, sets.values())) == 15_091
    assert took < 3
    (immune,) = DATA.glob("*immunesigdb*")
    joined = read_signatures(immune, join_up_down=True)
    signed = [s for s in joined.values() if s.has_negative]
    assert len(signed) == 4_872 - len(joined)
    assert len(signed) > 2_000
