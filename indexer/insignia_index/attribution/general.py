"""Attributions of any differentiable model, through all of it at every point of the path."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from insignia_index.attribution.model import AttributionModel
from insignia_index.attribution.multipliers import Multipliers


class General:
    """A model on a device; its genes are what multipliers are asked for."""

    def __init__(self, model: AttributionModel, device: torch.device) -> None:
        self._module = model.module.to(device)
        self._target = model.target
        self._rows = model.rows_at_once
        self._nothing = torch.zeros(len(model.genes), device=device)
        self.device = device

    def attributions(self, cells: csr_matrix, multipliers: Multipliers) -> csr_matrix:
        """Signed attributions of cells (n_cells, n_genes), at their non-zeros; float32."""
        data = np.empty_like(cells.data)
        for first in range(0, cells.shape[0], self._rows):
            part = cells[first : first + self._rows]
            found = multipliers(self._module, self._target, self._dense(part), self._nothing, self._rows)
            rows = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
            values = found.float().cpu().numpy()[rows, part.indices] * part.data
            data[cells.indptr[first] : cells.indptr[first] + len(values)] = values
        return csr_matrix((data, cells.indices, cells.indptr), cells.shape)

    def _dense(self, cells: csr_matrix) -> Tensor:
        return torch.from_numpy(cells.toarray()).to(self.device)
