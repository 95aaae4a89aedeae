"""What the metadata of all folders says together: studies, kinds of columns, who tells the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api import types

from insignia_index.build.errors import MissingField, ReservedField
from insignia_index.build.inputs import InputFile
from insignia_index.build.obs import RESERVED, check_sample, study_of_cells
from insignia_index.build.signature.folders import Folder
from insignia_index.build.tables import read_table
from insignia_index.format.files import bytes_digest

#: Names that the folder's name takes as a field, the first that is free.
_FOLDER_FIELDS = ("cell_type", "cell_type_folder")


@dataclass
class Cells:
    """What is known of the cells of all folders before an array is read.

    ``study_of``: per folder, the study of each cell, int32 (n_cells,), and ``present``, all of them;
    ``columns``: per folder, its columns; ``kinds``: of every column, over all folders. ``folder_field``:
    field that tells the folder's name, and ``adds_folder``: whether it is none of the metadata's own.
    """

    options: InputFile
    studies: list[str] = field(default_factory=list)
    study_of: list[npt.NDArray[np.int32]] = field(default_factory=list)
    present: list[set[int]] = field(default_factory=list)
    columns: list[list[str]] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)
    folder_field: str = _FOLDER_FIELDS[0]
    adds_folder: bool = True

    @property
    def text(self) -> set[str]:
        """Columns that are text whatever they look like: 007 is not 7."""
        return {self.options.study_field or "study", self.options.sample_field or "sample"}

    def columns_of(self, study: int) -> list[str]:
        """Columns of the folders that have cells of a study, in order of appearance."""
        return list(
            dict.fromkeys(
                name
                for columns, present in zip(self.columns, self.present, strict=True)
                if study in present
                for name in columns
            )
        )

    def field_kinds(self, study: int) -> dict[str, str | None]:
        """Kinds of a study's fields in the atlas, None of one without a value; raises `ReservedField`."""
        of_column = {"text": "category", "missing": None}
        left_out = {*self.options.drop_fields, self.options.study_field or "study"}
        if reserved := [name for name in self.columns_of(study) if name in RESERVED and name not in left_out]:
            raise ReservedField(self.options.path, *reserved)
        check_sample(self.options, self.columns_of(study))
        kinds = {
            name: of_column.get(self.kinds[name], self.kinds[name])
            for name in self.columns_of(study)
            if name not in left_out
        }
        return kinds | {"sample": "category"} | ({self.folder_field: "category"} if self.adds_folder else {})

    def digest(self, study: int, folders: Sequence[Folder]) -> str:
        """Digest of all folders with cells of a study, and of how their metadata is understood."""
        kinds = [(name, self.kinds[name]) for name in self.columns_of(study)]
        digests = [f.digest for f, present in zip(folders, self.present, strict=True) if study in present]
        options = (self.options.study_field, self.options.sample_field, self.options.drop_fields)
        understood = (self.folder_field, self.adds_folder, kinds, options)
        return "-".join([bytes_digest(repr(digests).encode()), bytes_digest(repr(understood).encode())])


def scan_cells(folders: Sequence[Folder], options: InputFile) -> Cells:
    """Read every folder's metadata once; ``options`` tells fields as for a file."""
    cells = Cells(options)
    known: dict[str, int] = {}
    telling: set[str] | None = None
    for folder in folders:
        table = read_table(folder.metadata, cells.text)
        named = InputFile(folder.metadata, study_field=options.study_field or "study")
        local, names = study_of_cells(named, table)
        ids = np.array([known.setdefault(name, len(known)) for name in names], np.int32)
        cells.study_of.append(ids[local])
        cells.present.append(set(ids.tolist()))
        cells.columns.append([str(name) for name in table.columns])
        for name in table.columns:
            kind = _kind(table[name])
            cells.kinds[str(name)] = _joined(cells.kinds.get(str(name), "missing"), kind)
        same = {str(name) for name in table.columns if (table[name] == folder.name).all()}
        telling = same if telling is None else telling & same
    cells.studies = list(known)
    if options.sample_field is not None and options.sample_field not in cells.kinds:
        raise MissingField(folders[0].metadata, options.sample_field, "is in no folder's metadata")
    # what becomes the study or the sample is not told of as a type
    _name_folders(cells, (telling or set()) - {*options.drop_fields, *cells.text, "sample"})
    return cells


def _name_folders(cells: Cells, telling: set[str]) -> None:
    """Take the column that says of every cell what its folder's name says; else add one."""
    if telling:
        cells.folder_field = "prediction" if "prediction" in telling else min(telling)
        cells.adds_folder = False
    else:
        free = [name for name in _FOLDER_FIELDS if name not in cells.kinds]
        cells.folder_field, cells.adds_folder = (free or _FOLDER_FIELDS)[0], bool(free)


def _kind(values: pd.Series[Any]) -> str:
    present = values[values.notna()]
    if len(present) == 0:
        return "missing"
    if types.is_bool_dtype(values.dtype) or all(isinstance(v, bool) for v in present.head(1_000)):
        # pandas reads True, False and nothing as objects
        return "bool" if all(isinstance(v, (bool, np.bool_)) for v in present.unique()) else "text"
    if types.is_integer_dtype(values.dtype) and present.max() <= np.iinfo(np.int64).max:
        return "integer"
    return "number" if types.is_float_dtype(values.dtype) else "text"


def _joined(a: str, b: str) -> str:
    """Kind of a column that is ``a`` in some folders and ``b`` in others."""
    if "missing" in (a, b) or a == b:
        return b if a == "missing" else a
    return "number" if {a, b} == {"integer", "number"} else "text"
