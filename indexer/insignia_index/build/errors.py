"""How an input can be bad, one class each; every message names the file and says what to do.

::

    InputError
    ├── UnreadableInput      not the format its name says, or cut off
    ├── UnreadableLayer      no such matrix in the file
    ├── UnsupportedMatrix    a matrix that cannot be read row by row, or is not numbers
    ├── CorruptMatrix        its parts do not fit together
    ├── NotFiniteValue       NaN or infinite
    ├── DuplicateEntry       one gene twice in one cell
    ├── EmptyStudy
    ├── DuplicateGene
    ├── DuplicateCellId
    ├── StudyExists
    ├── StudyTwice           in two files of one build
    ├── MissingField
    ├── ReservedField
    ├── FieldConflict        a number here, a category there
    ├── InvalidText
    ├── UnreadableGeneTable
    ├── NoAttributions       not a folder as sc-signature publishes it
    ├── UnsupportedArray     a TileDB array that sc-signature would not write
    └── ShapeMismatch        gene list, metadata and matrix disagree
"""

from __future__ import annotations

from pathlib import Path

from insignia_model.errors import InputError


class UnreadableInput(InputError):
    """Not the format its name says, cut off, or not there."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}", path=str(path))


class UnreadableLayer(InputError):
    """No such matrix in the file."""

    def __init__(self, path: Path, layer: str, layers: list[str]) -> None:
        known = f"layers: {', '.join(layers)}" if layers else "the file has no layers"
        super().__init__(
            f"{path}: there is no readable matrix {layer!r}; {known}; "
            + ("leave out --layer to use X" if layer != "X" else "name another one with --layer"),
            path=str(path),
            layer=layer,
        )


class UnsupportedMatrix(InputError):
    """A matrix that cannot be read row by row, or is not of real numbers."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path}: the matrix is stored as {found}; what can be read cell by cell is CSR "
            "(convert it with .tocsr()) or dense, of real numbers",
            path=str(path),
        )


class CorruptMatrix(InputError):
    """The parts of a sparse matrix do not fit together."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: the matrix is damaged: {problem}; write the file again", path=str(path))


class NotFiniteValue(InputError):
    """An attribution that is NaN or infinite."""

    def __init__(self, path: Path, study: str, cell_id: str) -> None:
        super().__init__(
            f"{path}: study {study!r}, cell {cell_id!r} has an attribution that is NaN or infinite; "
            "find out why, or set it to 0",
            path=str(path),
            study=study,
            cell_id=cell_id,
        )


class DuplicateEntry(InputError):
    """One gene twice in one cell."""

    def __init__(self, path: Path, study: str, cell_id: str) -> None:
        super().__init__(
            f"{path}: study {study!r}, cell {cell_id!r} has two entries for one gene; "
            "call sum_duplicates() on the matrix and save it again",
            path=str(path),
            study=study,
            cell_id=cell_id,
        )


class EmptyStudy(InputError):
    """A file, or a study of it, without cells."""

    def __init__(self, path: Path, study: str) -> None:
        super().__init__(f"{path}: study {study!r} has no cells", path=str(path), study=study)


class DuplicateGene(InputError):
    """A gene that names two columns."""

    def __init__(self, path: Path, genes: list[str]) -> None:
        super().__init__(
            f"{path}: genes that stand twice: {', '.join(genes[:5])}{' ...' if len(genes) > 5 else ''}; "
            "make them unique or sum their columns",
            path=str(path),
        )


class DuplicateCellId(InputError):
    """A cell id that two cells of a study have."""

    def __init__(self, path: Path, study: str, cell_ids: list[str]) -> None:
        super().__init__(
            f"{path}: cell ids that stand twice in study {study!r}: {', '.join(cell_ids[:5])}"
            f"{' ...' if len(cell_ids) > 5 else ''}; make them unique"
            + (" (adata.obs_names_make_unique())" if path.suffix in (".h5ad", ".zarr") else ""),
            path=str(path),
            study=study,
        )


class StudyExists(InputError):
    """The atlas already has the study, from another input."""

    def __init__(self, path: Path, study: str) -> None:
        super().__init__(
            f"{path}: the atlas already has study {study!r}, built from other content or with other options; "
            "--replace replaces it, another name of the study (insignia build --study) keeps both",
            path=str(path),
            study=study,
        )


class StudyTwice(InputError):
    """A study that two of the files of one build have."""

    def __init__(self, path: Path, study: str) -> None:
        super().__init__(
            f"{path}: another one of the files has study {study!r} too, and a study is built from one file; "
            "join them, or build them one by one with another name (insignia build --study)",
            path=str(path),
            study=study,
        )


class MissingField(InputError):
    """A metadata column that was asked for is not there, or not for every cell."""

    def __init__(self, path: Path, field: str, problem: str) -> None:
        super().__init__(f"{path}: metadata column {field!r} {problem}", path=str(path), field=field)


class ReservedField(InputError):
    """Metadata columns whose names mean something else here."""

    def __init__(self, path: Path, *fields: str, why: str = "Insignia uses the name itself") -> None:
        names = " and ".join(f"a metadata column {field!r}" for field in fields)
        drop = " ".join(f"--drop-field {field}" for field in fields)
        them = "it" if len(fields) == 1 else "them"
        super().__init__(
            f"{path}: there is {names}, but {why}; rename {them}, or leave {them} out with {drop}",
            path=str(path),
            field=", ".join(fields),
        )


class FieldConflict(InputError):
    """A field that is a number in one study and text in another."""

    def __init__(self, path: Path, field: str, kind: str, study: str, other: str) -> None:
        super().__init__(
            f"{path}: field {field!r} is a {kind} here and a {other} in study {study!r}; "
            f"convert the column, or leave it out with --drop-field {field}",
            path=str(path),
            field=field,
        )


class InvalidText(InputError):
    """Text that cannot be stored."""

    def __init__(
        self, path: Path, where: str, problem: str = "is empty or contains a NUL character; rename it"
    ) -> None:
        super().__init__(f"{path}: {where} {problem}", path=str(path))


class UnreadableGeneTable(InputError):
    """A table of gene names that cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}; a gene table is CSV, TSV or Parquet with the columns symbol, ensembl_id, "
            "previous and aliases, names separated by |",
            path=str(path),
        )


class NoAttributions(InputError):
    """Neither a cell type's folder, as sc-signature publishes it, nor a folder of such."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}; a cell type is a folder with attributions/ and its metadata, "
            "give such folders or one that holds them",
            path=str(path),
        )


class UnsupportedArray(InputError):
    """A TileDB array that is not of the kind that sc-signature writes."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path}: the array {found}; what can be read is what sc-signature's create_tiledb writes: a "
            "sparse array with the dimensions x (cells) and y (genes) and the attribute vals",
            path=str(path),
        )


class ShapeMismatch(InputError):
    """Gene list, metadata and matrix disagree."""

    def __init__(self, path: Path, what: str, found: int, expected: int) -> None:
        super().__init__(
            f"{path}: {what} has {found:,} entries, the matrix needs {expected:,}", path=str(path)
        )
