"""Tables of gene names of other species: files, atlases that carry one, damage."""

from pathlib import Path

import lmdb
import pandas as pd
import pytest

from insignia_index import Atlas
from insignia_index.build.errors import UnreadableGeneTable
from insignia_index.genes.read import read_gene_table
from insignia_index.genes.table import GeneNames
from insignia_index.verify import verify_atlas
from insignia_model.errors import AtlasCorrupt, InvalidArgument

from .made import build, study

MOUSE = """symbol\tensembl_id\tprevious\taliases
Trp53\tENSMUSG00000059552\tp53\tbbl|bfy
Isg15\tENSMUSG00000035692\tG1p2\t
"""
YEAST = "symbol,ensembl_id\nTrp53,YAL001C\n"
GENES = ["Trp53", "Isg15"]


def table(folder: Path, text: str = MOUSE, name: str = "mouse.tsv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def used(path: Path, name: str) -> str | None:
    with Atlas.open(path) as atlas:
        return atlas.genes([name]).resolved.get(name)


def test_an_atlas_resolves_by_the_table_that_it_was_made_with(tmp_path: Path) -> None:
    path = build(tmp_path, [study("A", 12, GENES)], gene_table=table(tmp_path))
    for name, symbol in {
        "G1p2": "Isg15",
        "bfy": "Trp53",
        "ENSMUSG00000059552.3": "Trp53",
        "TRP53": "Trp53",
    }.items():
        assert used(path, name) == symbol
    assert used(path, "G1P3") is None  # of the human table
    verify_atlas(path)
    # studies that come later change nothing
    build(tmp_path, [study("B", 12, GENES)])
    build(tmp_path, [study("C", 12, GENES)], gene_table=table(tmp_path))
    assert used(path, "bfy") == "Trp53"


def test_a_table_is_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    made = [study("A", 12, GENES)]
    path = build(tmp_path, made)
    assert used(path, "bfy") is None
    with pytest.raises(InvalidArgument, match="made with the human gene table; --replace-gene-table"):
        build(tmp_path, made, gene_table=table(tmp_path))
    with Atlas.open(path) as atlas:
        build(tmp_path, made, gene_table=table(tmp_path), replace_gene_table=True)
        assert atlas.genes(["bfy"]).missing == ("bfy",)
        assert atlas.refresh()
        assert atlas.genes(["bfy"]).resolved == {"bfy": "Trp53"}
    with pytest.raises(InvalidArgument, match="made with another gene table"):
        build(tmp_path, made, gene_table=table(tmp_path, YEAST, "yeast.csv"))
    build(tmp_path, made, gene_table=table(tmp_path, YEAST, "yeast.csv"), replace_gene_table=True)
    assert used(path, "YAL001C") == "Trp53"


@pytest.mark.parametrize("change", ["lost", "damaged"])
def test_a_table_that_is_not_as_it_was_written_is_noticed(tmp_path: Path, change: str) -> None:
    path = build(tmp_path, [study("A", 12, GENES)], gene_table=table(tmp_path))
    with (
        lmdb.open(str(path / "meta.lmdb"), subdir=False, map_size=1 << 30) as file,
        file.begin(write=True) as t,
    ):
        if change == "lost":
            t.delete(b"gene_table")
        else:
            t.put(b"gene_table", t.get(b"gene_table")[:-1] + b"!")
    with Atlas.open(path) as atlas:
        atlas.search(GENES)  # which needs no table
        with pytest.raises(AtlasCorrupt, match="the gene table is"):
            atlas.search(["bfy", "Trp53"])
    with pytest.raises(AtlasCorrupt, match="the gene table is"):
        verify_atlas(path)


def test_files_of_several_kinds_give_the_same_table(tmp_path: Path) -> None:
    expected = [
        GeneNames("Isg15", "ENSMUSG00000035692", ("G1p2",), ()),
        GeneNames("Trp53", "ENSMUSG00000059552", ("p53",), ("bbl", "bfy")),
    ]
    frame = pd.read_csv(table(tmp_path), sep="\t", dtype=str)
    frame.to_parquet(tmp_path / "mouse.parquet")
    frame.to_csv(tmp_path / "mouse.csv.gz", index=False)
    rows = [("Gene stable ID", "Gene name", "Gene Synonym")]
    rows += [("ENSMUSG00000059552", "Trp53", alias) for alias in ("bbl", "bfy")]
    biomart = "".join("\t".join(row) + "\n" for row in rows)
    for path in (table(tmp_path), tmp_path / "mouse.parquet", tmp_path / "mouse.csv.gz"):
        genes = read_gene_table(path)
        assert [genes[0], genes[1]] == expected
    assert read_gene_table(table(tmp_path, biomart, "biomart.txt"))[0] == expected[1]._replace(previous=())
    nameless = read_gene_table(
        table(tmp_path, "symbol\tensembl_id\n\tENSMUSG00000059552\nNA\t\n", "nameless.tsv")
    )
    assert {nameless[0], nameless[1]} == {
        GeneNames("ENSMUSG00000059552", "ENSMUSG00000059552"),
        GeneNames("NA"),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name\tensembl\nA\tB\n", "no column 'symbol'"),
        ("symbol\taliases\n\tB\n", "neither symbol nor Ensembl id"),
        ("symbol\taliases\n", "no genes"),
        ("symbol,aliases\nA|B,C\n", "'A|B' is no name"),
        ("symbol\n#A\n", "'#A' is no name"),
        ("", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, text: str, says: str) -> None:
    path = table(tmp_path, text, "bad.csv" if "," in text else "bad.tsv")
    with pytest.raises(UnreadableGeneTable) as caught:
        read_gene_table(path)
    assert says in str(caught.value)
    with pytest.raises(UnreadableGeneTable):
        read_gene_table(tmp_path / "none.tsv")


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_a_compressed_table_that_is_cut_off_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"mouse.csv.{kind}"
    pd.DataFrame({"symbol": [f"G{i}" for i in range(500)]}).to_csv(path, index=False)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UnreadableGeneTable, match="cannot be read"):
        read_gene_table(path)
