"""By what a change of a module's input is multiplied to become a change of the target."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from insignia_index.attribution.quadrature import points
from insignia_index.attribution.recipe import Recipe

Target = Callable[[Tensor, Tensor], Tensor]


class Multipliers(Protocol):
    """A method of attribution: an input's attribution is its value times its multiplier."""

    def __call__(self, module: nn.Module, target: Target, x: Tensor, offset: Tensor, n_rows: int) -> Tensor:
        """Multipliers (n_cells, width) of ``x`` (n_cells, width) against the zero baseline.

        ``module`` takes ``x`` plus ``offset`` (width,), and ``n_rows`` rows at once.
        """


class IntegratedGradients:
    """Mean gradient on the path, by a quadrature (Sundararajan et al. 2017, arXiv:1703.01365)."""

    def __init__(self, quadrature: str, n_steps: int) -> None:
        self._positions, self._weights = points(quadrature, n_steps)

    def __call__(self, module: nn.Module, target: Target, x: Tensor, offset: Tensor, n_rows: int) -> Tensor:
        """See `Multipliers`."""
        n_cells, width = x.shape
        own = embedding(module, x + offset)
        positions, weights = (
            torch.tensor(values, dtype=x.dtype, device=x.device)[:, None, None]
            for values in (self._positions, self._weights)
        )
        step = max(1, n_rows // n_cells)
        total = torch.zeros_like(x)
        for first in range(0, len(positions), step):
            path = torch.addcmul(offset, positions[first : first + step], x)
            slopes = gradient(module, target, path.reshape(-1, width), own.repeat(len(path), 1))
            total += (weights[first : first + step] * slopes.view_as(path)).sum(0)
        return total


class Gradient:
    """Gradient at the cell: the attribution is input x gradient."""

    def __call__(self, module: nn.Module, target: Target, x: Tensor, offset: Tensor, n_rows: int) -> Tensor:
        """See `Multipliers`."""
        return gradient(module, target, x + offset, embedding(module, x + offset))


class DeepLift:
    """Rescale rule against the zero baseline (Shrikumar et al. 2017, arXiv:1704.02685), as captum has it.

    Captum knows the rule for ReLU, ELU, LeakyReLU, Sigmoid, Tanh, Softplus and Softmax, and takes the
    gradient at the cell for everything else, such as PReLU and SELU. `sc-signature` does the same.
    """

    def __call__(self, module: nn.Module, target: Target, x: Tensor, offset: Tensor, n_rows: int) -> Tensor:
        """See `Multipliers`."""
        import captum.attr

        if len(x) > 1 and any(isinstance(layer, nn.Softmax) for layer in module.modules()):
            # captum's rule for it takes a mean over all that it is given
            return torch.cat([self(module, target, one, offset, n_rows) for one in x.split(1)])
        own = embedding(module, x + offset)
        with warnings.catch_warnings():
            # that hooks are set and taken away, and gradients asked for
            warnings.filterwarnings("ignore", category=UserWarning, module="captum")
            found: Tensor = captum.attr.DeepLift(_Scored(module, target), multiply_by_inputs=False).attribute(
                x + offset, offset.expand_as(x).contiguous(), additional_forward_args=(own,)
            )
        return found.detach()


class _Scored(nn.Module):
    def __init__(self, module: nn.Module, target: Target) -> None:
        super().__init__()
        self.module = module
        self._target = target

    def forward(self, inputs: Tensor, own: Tensor) -> Tensor:
        return self._target(self.module(inputs), own)


def multipliers_of(recipe: Recipe) -> Multipliers:
    """The method of a recipe."""
    if recipe.method == "ig":
        return IntegratedGradients(recipe.quadrature, recipe.steps)
    return DeepLift() if recipe.method == "deeplift" else Gradient()


def embedding(module: nn.Module, inputs: Tensor) -> Tensor:
    """Embeddings of inputs, without a graph."""
    with torch.no_grad():
        found: Tensor = module(inputs)
    return found


def gradient(module: nn.Module, target: Target, inputs: Tensor, own: Tensor) -> Tensor:
    """Gradient of the target by the inputs (n, n_inputs); ``own`` (n, n_dimensions) is held fixed."""
    inputs = inputs.detach().requires_grad_(True)
    # a copy, which layers may change in place
    (found,) = torch.autograd.grad(target(module(inputs.clone()), own).sum(), inputs)
    return found
