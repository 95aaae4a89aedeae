"""What a metadata table says is what is read: nothing renamed, rounded, cut off or lost."""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from insignia_index.build.errors import UnreadableInput
from insignia_index.build.tables import TAKEN_FOR_MISSING, read_genes, read_table


def table(tmp_path: Path, text: str, *as_text: str) -> pd.DataFrame:
    (tmp_path / "cells.csv").write_bytes(text.encode())
    return read_table(tmp_path / "cells.csv", as_text)


def test_a_column_is_what_all_of_its_values_are(tmp_path: Path) -> None:
    lines = ["id,whole,gap,truth,some,number,text,none", "a,1,9007199254740993,TRUE,true,0.1,x y,"]
    lines += ["b, 2,,False,,1e-3,007,", "c,-3,1,true,False,NA,0x1F,"]
    found = table(tmp_path, "\n".join(lines))
    assert found.dtypes.astype(str).replace("str", "object").to_dict() == {
        "whole": "int64", "gap": "Int64", "truth": "bool", "some": "boolean", "number": "float64",
        "text": "object", "none": "float64",
    }  # fmt: skip
    assert found["whole"].tolist() == [1, 2, -3]
    assert found["gap"].iloc[0] == 9007199254740993  # no float64
    assert found["some"].tolist() == [True, pd.NA, False]
    assert found["text"].tolist() == ["x y", "007", "0x1F"]
    assert found["none"].isna().all()


def test_numbers_are_as_exact_as_they_are_written(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=2_000) * 10.0 ** np.arange(-1_000, 1_000).clip(-300, 300)
    found = table(tmp_path, "id,x\n" + "".join(f"c{i},{float(x)!r}\n" for i, x in enumerate(numbers)))
    np.testing.assert_array_equal(found["x"], numbers)


def test_no_treatment_is_a_treatment_and_what_is_taken_for_missing_is_told(tmp_path: Path) -> None:
    found = table(tmp_path, "id,drug,sample,n\nNA,None,NA,None\nb,NA,s,2\nc,None,,3\nd,NA,7,4\n", "sample")
    assert found.index.tolist() == ["NA", "b", "c", "d"]
    assert found["drug"].fillna("?").tolist() == ["None", "?", "None", "?"]
    assert found["sample"].fillna("?").tolist() == ["?", "s", "?", "7"]
    assert found["n"].fillna(0).tolist() == [0, 2, 3, 4]
    assert found.attrs[TAKEN_FOR_MISSING] == {"drug": {"NA": 2}, "sample": {"NA": 1}}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,x,y\na,1,2\nb,3\n", "Expected 3 columns, got 2"),
        ("x,y\na,1,2\n", "name the cell ids' column too"),
        ("id,x\na,1\0 2\n", "column 'x' holds a NUL"),
        ("id,x,x\na,1,2\n", "column 'x' stands more than once"),
        ("id,x,\na,1,2\n", "a column has no name: its first value is '2'"),
        ("id;a,x\na;1,2\n", "not separated by ',' but by ';'"),
        ("", "it is empty"),
        ("\n", "it is empty"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UnreadableInput, match=problem):
        table(tmp_path, text)


def test_text_of_another_encoding_is_told(tmp_path: Path) -> None:
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "cells.csv").write_bytes("id,x\na,é\n".encode(encoding))
        with pytest.raises(UnreadableInput, match="save it as UTF-8"):
            read_table(tmp_path / "cells.csv")


def test_empty_columns_at_the_end_are_none(tmp_path: Path) -> None:
    assert list(table(tmp_path, ",x,,\na,1,,\nb,2,,\n")) == ["x"]


def zipped(data: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cells.csv", data)


def zstandard(data: bytes, path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(data)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".gz", lambda data, path: path.write_bytes(gzip.compress(data))),
        (".bz2", lambda data, path: path.write_bytes(bz2.compress(data))),
        (".xz", lambda data, path: path.write_bytes(lzma.compress(data))),
        (".zip", zipped),
        (".zst", zstandard),
    ],
)
def test_compressed_tables(tmp_path: Path, suffix: str, write: Callable[[bytes, Path], None]) -> None:
    path = tmp_path / f"cells.tsv{suffix}"
    write(b'\xef\xbb\xbfid\tx\r\n"a\tb"\t"1"\r\n\r\nc\t2\r\n', path)
    found = read_table(path)
    assert (found.index.tolist(), found["x"].tolist()) == (["a\tb", "c"], [1, 2])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableInput):
        read_table(path)


@pytest.mark.parametrize("line", ["G{},ENSG{}", '"G{}"', "G{};x"])
def test_a_gene_list_of_another_form_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "genes.txt").write_text("\n".join(line.format(i, i) for i in range(3)))
    with pytest.raises(UnreadableInput, match="write one name a line"):
        read_genes(tmp_path / "genes.txt")
