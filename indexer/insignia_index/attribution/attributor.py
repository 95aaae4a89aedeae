"""A model, a recipe and a device: prepared cells in, attributions out, checked on a sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from insignia_index.attribution.collapsed import BATCH_CELLS, Collapsed, can_collapse
from insignia_index.attribution.errors import NotFiniteAttribution, VanishingGradient
from insignia_index.attribution.general import General
from insignia_index.attribution.model import AttributionModel
from insignia_index.attribution.multipliers import multipliers_of
from insignia_index.attribution.recipe import Recipe
from insignia_model.errors import InvalidArgument

#: One cell in so many is checked: for completeness, and against float32 where less is used.
_CHECK_EVERY = 100


@dataclass(slots=True)
class Checks:
    """What the checked cells showed, relative errors of each.

    ``completeness``: of the sum of a cell's attributions, which should be target(cell) - target(baseline).
    ``precision``: of the attributions in a lower precision, norm of the difference over the norm.
    """

    completeness: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)

    def in_words(self) -> dict[str, float | int]:
        """As an output records it: medians and maxima over the checked cells."""
        words: dict[str, float | int] = {"n_cells_checked": max(len(self.completeness), len(self.precision))}
        for name in ("completeness", "precision"):
            errors = getattr(self, name)
            if errors:
                words |= {
                    f"{name}_error_median": float(np.median(errors)),
                    f"{name}_error_max": max(errors),
                }
        return words


class Attributor:
    """Makes attributions. Raises `VanishingGradient` where a method can only give rounding errors."""

    def __init__(self, model: AttributionModel, recipe: Recipe | None = None, device: str = "auto") -> None:
        self.model = model
        self.recipe = recipe or Recipe()
        self.checks = Checks()
        if model.gradient_vanishes and self.recipe.method != "ig":
            raise VanishingGradient(model.kind, self.recipe.method)
        self.device = chosen_device(device)
        if self.recipe.precision == "tf32" and self.device.type != "cuda":
            raise InvalidArgument("precision", "tf32 is for CUDA devices; use float32 or bfloat16 here")
        way = Collapsed if can_collapse(model.module) else General
        #: cells of a batch; of whole batches the numbers are the same, however the cells are divided
        self.batch_cells = BATCH_CELLS if way is Collapsed else model.rows_at_once
        with _in_evaluation(model.module):
            self._way = way(model, self.device)
        self._multipliers = multipliers_of(self.recipe)

    def attribute(self, prepared: csr_matrix, first: int = 0) -> csr_matrix:
        """Attributions of prepared cells (n_cells, n_genes), float32, scaled as the recipe has it.

        ``first``: number of the first cell in the run; which cells are checked depends on it. Zeros are not
        stored. A cell without attributions stays empty. The cells are left as they are.
        """
        n_genes = len(self.model.genes)
        if prepared.shape[1] != n_genes:
            raise InvalidArgument(
                "cells", f"they have {prepared.shape[1]:,} genes, the model {n_genes:,}: take its"
            )
        cells = csr_matrix(prepared, dtype=np.float32, copy=True)  # its indices become those of the result
        cells.sum_duplicates()
        # gradients, also for a caller that has turned them off
        with torch.inference_mode(False), torch.enable_grad(), _in_evaluation(self.model.module):
            return self._attribute(cells, first)

    def _attribute(self, prepared: csr_matrix, first: int) -> csr_matrix:
        with lowered(self.recipe.precision, self.device):
            signed = self._way.attributions(prepared, self._multipliers)
        bad = ~np.isfinite(signed.data)
        if bad.any():
            raise NotFiniteAttribution(first + _row_of(signed, int(np.argmax(bad))))
        rows = np.flatnonzero((first + np.arange(prepared.shape[0])) % _CHECK_EVERY == 0)
        if len(rows):
            self._check(prepared[rows], signed[rows])
        if not self.recipe.signed:
            np.abs(signed.data, out=signed.data)
        if self.recipe.target_sum is not None:
            _scale_rows(signed, self.recipe.target_sum)
        signed.eliminate_zeros()
        return signed

    def _check(self, prepared: csr_matrix, signed: csr_matrix) -> None:
        if self.recipe.precision != "float32":
            exact = self._way.attributions(prepared, self._multipliers)
            self.checks.precision += _relative_norms(signed, exact)
        if self.recipe.method != "input-x-gradient":  # which promises no sum
            whole, nothing = (t.double().cpu().numpy() for t in self._scores(prepared))
            expected = whole - nothing
            sums = np.asarray(signed.sum(1, np.float64)).ravel()
            told = np.abs(expected) > 1e-6 * np.abs(whole).max(initial=0)  # not: a cell without genes
            errors = np.abs(sums - expected)[told] / np.abs(expected[told])
            self.checks.completeness += errors.tolist()

    def _scores(self, cells: csr_matrix) -> tuple[Tensor, Tensor]:
        """Target of cells, and of the zero baseline under each cell's own embedding, (n_cells,) each.

        By the model as it came: a check of whatever has been made of it, too.
        """
        module, target, rows = self.model.module, self.model.target, self.model.rows_at_once
        device = next((p.device for p in module.parameters()), self.device)
        found = []
        with torch.no_grad():
            baseline = module(torch.zeros(1, cells.shape[1], device=device))
            for i in range(0, cells.shape[0], rows):
                own = module(torch.from_numpy(cells[i : i + rows].toarray()).to(device))
                found.append((target(own, own), target(baseline.expand_as(own), own)))
        whole, nothing = zip(*found, strict=True)
        return torch.cat(whole), torch.cat(nothing)


@contextmanager
def _in_evaluation(module: nn.Module) -> Iterator[None]:
    """Layers as in evaluation, no gradients of weights; then all as it was, for whoever trains the model."""
    training = [(part, part.training) for part in module.modules()]
    learning = [(weight, weight.requires_grad) for weight in module.parameters()]
    module.eval()
    for weight, _ in learning:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for part, was_training in training:
            part.training = was_training
        for weight, was_learning in learning:
            weight.requires_grad_(was_learning)


def chosen_device(name: str) -> torch.device:
    """Device of a name; auto: CUDA where there is one. Raises `InvalidArgument`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:  # assertions: torch without CUDA
        problem = str(error).strip().splitlines()[0].partition(". ")[0][:120]
        raise InvalidArgument("device", f"{name!r} cannot be used here ({problem})") from error
    return device


@contextmanager
def lowered(precision: str, device: torch.device) -> Iterator[None]:
    """Let matrix products be of a lower precision, where that is asked for."""
    if precision == "bfloat16":
        with torch.autocast(device.type, torch.bfloat16):
            yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _scale_rows(matrix: csr_matrix, total: float) -> None:
    """Scale each row's absolute values to a sum, in place; rows of zeros stay."""
    n_of_row = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(matrix.shape[0]), n_of_row)
    sums = np.bincount(rows, np.abs(matrix.data), matrix.shape[0]).astype(np.float64)  # of nothing: whole
    scale = np.divide(total, sums, out=np.zeros_like(sums), where=sums > 0)
    # the factor of a cell with tiny attributions is more than float32 holds
    matrix.data[:] = matrix.data * np.repeat(scale, n_of_row)


def _relative_norms(found: csr_matrix, exact: csr_matrix) -> list[float]:
    """Norm of the difference over the norm, row by row; rows of zeros left out."""

    def norms(matrix: Any) -> npt.NDArray[np.float64]:
        squares: npt.NDArray[np.float64] = np.asarray(matrix.multiply(matrix).sum(1, np.float64)).ravel()
        return np.sqrt(squares)

    size = norms(exact)
    errors: list[float] = (norms(found - exact)[size > 0] / size[size > 0]).tolist()
    return errors


def _row_of(matrix: csr_matrix, entry: int) -> int:
    return int(np.searchsorted(matrix.indptr, entry, side="right")) - 1
