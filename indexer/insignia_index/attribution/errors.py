"""How attributions can fail to be made, one class each.

::

    InputError
    ├── ModelError            a model's directory
    │   ├── UnknownModel      not of a kind that anybody here reads
    │   ├── UnreadableModel   a file is missing, damaged, or does not fit the others
    │   └── UnsafeWeights     weights that only running code from the file could read
    └── CountsError           the cells
        ├── NotCounts         no matrix of the file is what the model needs
        ├── BadCount          a value that is negative, no number, or of another kind than the others
        └── TooFewGenes       of the model's genes
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from insignia_model.errors import InputError


class ModelError(InputError):
    """A model that cannot be used."""


class UnknownModel(ModelError):
    """A directory that holds no model that is known."""

    def __init__(self, directory: Path, kinds: Sequence[str], given: str | None = None) -> None:
        what = f"no model of kind {given!r}" if given else "no model that is known"
        known = "; ".join(kinds)
        super().__init__(f"{directory}: {what}; kinds and their files: {known}", path=str(directory))


class UnreadableModel(ModelError):
    """A file of a model is missing, damaged, or does not fit the others."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}", path=str(path))


class UnsafeWeights(ModelError):
    """Weights that are stored as Python objects which loading would have to run."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: it holds more than tensors ({reason}), and reading that would run code from the file; "
            "save the weights alone: torch.save(model.state_dict(), FILE)",
            path=str(path),
        )


class CountsError(InputError):
    """Cells whose attributions cannot be made."""


class NotCounts(CountsError):
    """No matrix of the file is what the model needs."""

    def __init__(self, path: Path, found: str, wanted: str) -> None:
        super().__init__(
            f"{path}: {found}; the model needs {wanted}; name the matrix with --counts, or put the raw "
            "counts into a layer 'counts'",
            path=str(path),
        )


class BadCount(CountsError):
    """A value that is negative, no number, or of another kind than the values before it."""

    def __init__(self, path: Path, matrix: str, row: int, problem: str) -> None:
        super().__init__(
            f"{path}: matrix {matrix!r}, row {row:,} {problem}; mend it, or name another matrix with "
            "--counts",
            path=str(path),
            row=row,
        )


class TooFewGenes(CountsError):
    """The file has too few of the model's genes."""

    def __init__(self, path: Path, n_found: int, n_genes: int, least: int, examples: str) -> None:
        super().__init__(
            f"{path}: {n_found:,} of the model's {n_genes:,} genes are there, {least:,} are needed; genes of "
            f"the file: {examples}; name the column of var with the symbols (--gene-field), or allow fewer "
            "(--min-genes)",
            path=str(path),
            n_found=n_found,
        )
