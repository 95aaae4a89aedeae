"""Gene lists and metadata tables that stand beside a matrix."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pandas as pd

from insignia_index.build.errors import UnreadableInput

if TYPE_CHECKING:
    import pyarrow as pa

#: What reading a file that is cut off or damaged raises, whatever it is compressed with.
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_NO_UTF8 = "the metadata table is no UTF-8 text: save it as UTF-8"
_ADVICE = {"\t": "let its name end in .tsv", ";": "write it with commas"}
#: What stands for no value, as R, pandas and databases write it. Among texts "None" is one: no treatment.
_MISSING = ("", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-NaN", "-nan", "NULL", "null")
_MISSING_NUMBER = (*_MISSING, "None", "none")
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
#: In a table's ``attrs``: what was taken for missing in columns of text, by column and by what was written.
TAKEN_FOR_MISSING = "insignia_taken_for_missing"


def read_genes(path: Path) -> list[str]:
    """Genes of a list: the first column of every line that is not empty."""
    try:
        text = path.read_text("utf-8-sig")
        genes = [line.split("\t")[0].strip() for line in text.splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableInput(path, f"the gene list cannot be read ({error})") from error
    for mark in ",;\"'":
        if genes and all(mark in gene for gene in genes):
            problem = (
                f"every line of the gene list has a {mark}: write one name a line, or a tab behind the name"
            )
            raise UnreadableInput(path, problem)
    return genes


def read_table(path: Path, text: Collection[str] = ()) -> pd.DataFrame:
    """CSV, TSV (also compressed) or Parquet; index: the first column, as it is written.

    Columns named in ``text`` are read as text. Another column of a CSV is one of whole numbers, of numbers
    (as exact as they are written) or of truth values if all that is not missing is.
    """
    import pyarrow as pa

    try:
        table = _read_parquet(path, text) if path.suffix == ".parquet" else _read_csv(path, text)
        if table.index.hasnans:
            raise ValueError(f"cell {int(table.index.isna().argmax()) + 1:,} has no id")
    except UnicodeDecodeError as error:
        raise UnreadableInput(path, _NO_UTF8) from error
    except (*DAMAGED, ValueError, IndexError, ImportError, csv.Error, pa.ArrowException) as error:
        raise UnreadableInput(path, f"the metadata table cannot be read ({error})") from error
    table.index = table.index.astype(str)
    return table


def _read_parquet(path: Path, text: Collection[str]) -> pd.DataFrame:
    table = pd.read_parquet(path)
    if isinstance(table.index, pd.MultiIndex):
        raise ValueError("its index has several levels: reset_index() makes columns of them")
    # pandas keeps an index of names; one of numbers is what a table without one is filtered to
    if table.index.name is None and pd.api.types.is_integer_dtype(table.index.dtype):
        table = table.set_index(table.columns[0])
    for name in table.columns.intersection(pd.Index(list(text))):
        table[name] = table[name].astype(str).where(table[name].notna(), None)
    return table


def _read_csv(path: Path, text: Collection[str]) -> pd.DataFrame:
    separator = "\t" if ".tsv" in path.suffixes else ","
    table = _read_texts(path, separator)
    ids, taken = table.column(0), {}
    found: dict[str, Any] = {}
    for name, column in zip(table.column_names[1:], table.columns[1:], strict=True):
        if name:
            found[name], taken[name] = _values(column, is_text=name in text)
    frame = pd.DataFrame(
        found, index=pd.Index(ids.to_numpy(), dtype=object, name=table.column_names[0] or None)
    )
    frame.attrs[TAKEN_FOR_MISSING] = {name: counts for name, counts in taken.items() if counts}
    return frame


def _read_texts(path: Path, separator: str) -> pa.Table:
    """All values as they are written: 007 is not 7, and NA may be an id. Every row has all columns."""
    import pyarrow as pa
    from pyarrow import compute
    from pyarrow import csv as arrow

    with TextIOWrapper(_opened(path), "utf-8-sig", newline="") as lines:
        names = next(csv.reader(lines, delimiter=separator), [])
    _check_header(names, separator)
    # names of our own: those of the file may repeat where they are empty
    numbers = [str(i) for i in range(len(names))]
    options = {
        "read_options": arrow.ReadOptions(column_names=numbers, skip_rows=1),
        "parse_options": arrow.ParseOptions(delimiter=separator, newlines_in_values=True),
        "convert_options": arrow.ConvertOptions(column_types=dict.fromkeys(numbers, pa.string())),
    }
    try:
        with _opened(path) as file:
            table = arrow.read_csv(pa.PythonFile(file, "r"), **options)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise UnreadableInput(path, _NO_UTF8) from error
        if f"Expected {len(names)} columns, got {len(names) + 1}:" in str(error):
            problem = "its rows have more values than its header has names: name the cell ids' column too"
            raise ValueError(problem) from error
        raise
    for number, (name, column) in enumerate(zip(names, table.columns, strict=True)):
        if compute.any(compute.match_substring(column, "\0")).as_py():
            raise ValueError(f"column {name!r} holds a NUL character; write the table without")
        if not name and number and compute.any(compute.not_equal(column, "")).as_py():
            raise ValueError(f"a column has no name: its first value is {column[0].as_py()!r}; name it")
    return table.rename_columns(names)


def _opened(path: Path) -> IO[bytes]:
    """The file as bytes, whatever the end of its name says that it is compressed with."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
            if len(inside) != 1:
                raise ValueError(f"it holds {len(inside)} files, not the table alone")
            return BytesIO(archive.read(inside[0]))
    if path.suffix == ".zst":
        import pyarrow as pa

        return BytesIO(pa.input_stream(str(path), compression="zstd").read())
    # Python's own: they allow zeros behind the compressed data, which pyarrow refuses
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    opened: IO[bytes] = openers.get(path.suffix, open)(path, "rb")
    return opened


def _check_header(names: list[str], separator: str) -> None:
    if not names:
        raise ValueError("it is empty")
    if other := next((c for c in "\t;" if c in names[0]), None):
        raise ValueError(f"its columns are not separated by {separator!r} but by {other!r}: {_ADVICE[other]}")
    repeated = [name for name, n in Counter(filter(None, names)).items() if n > 1]
    if repeated:
        raise ValueError(f"column {repeated[0]!r} stands more than once in its header; rename one")


def _values(column: pa.ChunkedArray, is_text: bool) -> tuple[Any, dict[str, int]]:
    """A column's values by what all of them are, and what was taken for missing in one of text, how often."""
    import pyarrow as pa
    from pyarrow import compute

    absent = compute.is_in(column, pa.array(_MISSING))
    if not is_text:
        written = compute.utf8_trim_whitespace(column)
        no_number = compute.is_in(written, pa.array(_MISSING_NUMBER))
        values = _no_texts(written, no_number)
        # a column of None alone is one of text
        if values is not None and (not compute.all(no_number).as_py() or compute.all(absent).as_py()):
            return values, {}
    texts = compute.if_else(absent, None, column).to_numpy()
    counts = compute.value_counts(column.filter(absent)).to_pylist()
    return texts, {count["values"]: count["counts"] for count in counts if count["values"]}


def _no_texts(written: pa.ChunkedArray, absent: pa.ChunkedArray) -> Any:
    """Truth values, whole numbers or numbers, but for those that are absent; None if there are others."""
    import pyarrow as pa
    from pyarrow import compute

    missing = absent.to_numpy()
    distinct = written.filter(compute.invert(absent)).unique()
    if 0 < len(distinct) <= len(_TRUTH) and {*distinct.to_pylist()} <= _TRUTH.keys():
        truths = compute.is_in(written, pa.array([text for text in _TRUTH if _TRUTH[text]])).to_numpy()
        return pd.arrays.BooleanArray(truths.copy(), missing.copy()) if missing.any() else truths
    if compute.any(compute.match_substring(distinct, "x", ignore_case=True)).as_py():
        return None  # pyarrow would read 0x1F
    numbers = compute.if_else(absent, None, written)
    for kind in (pa.int64(), pa.uint64()) if len(distinct) else ():
        with suppress(pa.ArrowInvalid):
            whole = numbers.cast(kind).fill_null(0).to_numpy()
            return pd.arrays.IntegerArray(whole.copy(), missing.copy()) if missing.any() else whole
    with suppress(pa.ArrowInvalid):
        return numbers.cast(pa.float64()).to_numpy()
    return None
