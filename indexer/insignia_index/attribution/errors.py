"""How attributions can fail to be made, one class each.

::

    InputError
    ├── ModelError            a model's directory
    │   ├── UnknownModel      not of a kind that anybody here reads
    │   ├── UnreadableModel   a file is missing, damaged, or does not fit the others
    │   ├── UnsafeWeights     weights that only running code from the file could read
    │   ├── VanishingGradient a method that can only give rounding errors of this model
    │   └── NotFiniteAttribution
    ├── OutputExists          made of something else
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


class VanishingGradient(ModelError):
    """A method that looks at the gradient at the cell, of a target that has its maximum there."""

    def __init__(self, kind: str, method: str) -> None:
        super().__init__(
            f"{method} cannot be used with a model of kind {kind!r}: its embeddings have unit length, so "
            "that the target is largest at the cell itself and its gradient there is zero; what would come "
            "out are rounding errors. Use ig",
            method=method,
        )


class NotFiniteAttribution(ModelError):
    """An attribution that is NaN or infinite."""

    def __init__(self, row: int) -> None:
        super().__init__(
            f"the attributions of row {row:,} are not finite; see whether its counts and the model's weights "
            "are",
            row=row,
        )


class OutputExists(InputError):
    """The output is there, and was made of something else."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: it is there already, made of another input or with another recipe; --replace replaces "
            "it",
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
