"""Attributions of a model that begins with a linear layer, in one pass over the genes.

The layer's output is z = W x + b. So along the straight path x(a) = a x from the zero baseline it is
a W x + b, and the gradient by a gene is that by z times the gene's column of W. Hence

    integrated gradient of gene g = x_g * W[:, g] . sum_k weight_k grad_z F(a_k W x + b)

where k runs over the quadrature's points: W is read once for W x and once for the last product, and only at
the genes that the cells express, instead of twice a point at all. The same holds for any attribution that is
a gene's value times a multiplier passed back through W (input x gradient; DeepLift, whose multipliers pass
through a linear layer as gradients do).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from insignia_index.attribution.model import AttributionModel
from insignia_index.attribution.multipliers import Multipliers

#: Cells of a batch: their dense matrix of expressed genes stays small beside the weights that they share.
BATCH_CELLS = 256
#: Rows (cells x points of the path) that go through the other layers at once, measured: docs/decisions/0009.
PASS_ROWS = 2048


class Collapsed:
    """A model split behind its first layer, on a device."""

    def __init__(self, model: AttributionModel, device: torch.device) -> None:
        if not isinstance(model.module, nn.Sequential):
            raise TypeError("the module is no row of layers")
        # not children(), which has a layer that stands twice once
        first, *others = _without_batch_norms(list(model.module))
        if not isinstance(first, nn.Linear):
            raise TypeError("the module does not begin with a linear layer")
        # a gene a row: gathering the expressed ones copies whole rows
        self._weight = first.weight.detach().T.contiguous().to(device)
        bias = first.bias if first.bias is not None else torch.zeros(first.out_features)
        self._bias = bias.detach().to(device)
        self._rest = nn.Sequential(*others).to(device)
        self._target = model.target
        self.device = device

    def attributions(self, cells: csr_matrix, multipliers: Multipliers) -> csr_matrix:
        """Signed attributions of cells (n_cells, n_genes), at their non-zeros; float32."""
        parts = [
            self._batch(cells[first : first + BATCH_CELLS], multipliers)
            for first in range(0, cells.shape[0], BATCH_CELLS)
        ]
        data = np.concatenate(parts) if parts else np.empty(0, np.float32)
        return csr_matrix((data, cells.indices, cells.indptr), cells.shape)

    def _batch(self, cells: csr_matrix, multipliers: Multipliers) -> np.ndarray:
        genes, x = self._expressed(cells)
        weight = self._weight[genes]
        products = (x @ weight).float()  # also where layers are of a lower precision
        found = multipliers(self._rest, self._target, products, self._bias, PASS_ROWS)
        slopes = (found @ weight.T).float().cpu().numpy()
        rows = np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr))
        columns = np.searchsorted(genes.cpu().numpy(), cells.indices)
        values: np.ndarray = slopes[rows, columns] * cells.data
        return values

    def _expressed(self, cells: csr_matrix) -> tuple[Tensor, Tensor]:
        """Genes that any of the cells expresses, and the cells' dense values (n_cells, n_expressed)."""
        genes, columns = np.unique(cells.indices, return_inverse=True)
        x = np.zeros((cells.shape[0], len(genes)), np.float32)
        x[np.repeat(np.arange(cells.shape[0]), np.diff(cells.indptr)), columns] = cells.data
        return torch.from_numpy(genes.astype(np.int64)).to(self.device), torch.from_numpy(x).to(self.device)


def can_collapse(module: nn.Module) -> bool:
    """Whether a module is a row of layers that begins with a linear one, and nothing else."""
    return (
        isinstance(module, nn.Sequential)
        and len(module) > 1
        and is_plain(module, nn.Sequential)
        and is_plain(module[0], nn.Linear)
    )


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module does what its kind does: a class of its own, a parametrisation or hook may do more."""
    return (
        type(module) is kind
        and "forward" not in vars(module)
        and not (module._forward_hooks or module._forward_pre_hooks)
        and not (module._backward_hooks or module._backward_pre_hooks)
    )


def _without_batch_norms(layers: list[nn.Module]) -> list[nn.Module]:
    """Layers with each batch norm made a part of the linear layer before it, as in evaluation it can be."""
    fused: list[nn.Module] = []
    for layer in layers:
        before = fused[-1] if fused else None
        if (
            isinstance(layer, nn.BatchNorm1d)
            and isinstance(before, nn.Linear)
            and is_plain(layer, nn.BatchNorm1d)
            and is_plain(before, nn.Linear)
            and _is_fixed(layer)
        ):
            # in evaluation: whoever makes this sees to it
            fused[-1] = fuse_linear_bn_eval(before, layer).requires_grad_(False)
        else:
            fused.append(layer)
    return fused


def _is_fixed(norm: nn.BatchNorm1d) -> bool:
    """Whether a batch norm is a product and a sum in evaluation, and has the weights that are fused."""
    return bool(norm.affine and norm.track_running_stats)
