"""How attributions are made: everything that changes them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from insignia_index.attribution.quadrature import QUADRATURES
from insignia_index.format.files import bytes_digest, tree_digest
from insignia_model.errors import InvalidArgument

METHODS = ("ig", "deeplift", "input-x-gradient")
PRECISIONS = ("float32", "tf32", "bfloat16")
#: Of what float32 holds with room to spare.
_LEAST_SUM, _LARGEST_SUM = 1e-20, 1e30
_MOST_STEPS = 2_000  # whose points take seconds to find, and memory as their square
VALUES = ("auto", "counts", "normalised", "log-normalised")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Method and its settings.

    ``method``: integrated gradients from the zero baseline in ``steps`` points of a ``quadrature``, DeepLift
    against it, or input x gradient. ``signed``: keep the signs, else absolute values. ``target_sum``: sum of
    a cell's absolute attributions after scaling; None: as they are. ``precision``: of the layers; what it
    costs is measured on a sample of the cells.

    ``counts``: matrix to read (X, raw, a layer; auto: the first that fits of the layer ``counts``, X, raw).
    ``values``: what it holds, else recognised. ``strict``: only exact gene symbols. ``min_genes``: of the
    model's genes, so many must be there (default 5,000, or half of a smaller model's).
    """

    method: str = "ig"
    steps: int = 50
    quadrature: str = "gausslegendre"
    signed: bool = False
    target_sum: float | None = 1000.0
    precision: str = "float32"
    counts: str = "auto"
    values: str = "auto"
    strict: bool = False
    min_genes: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("method", METHODS),
            ("quadrature", QUADRATURES),
            ("precision", PRECISIONS),
            ("values", VALUES),
        ):
            if getattr(self, name) not in allowed:
                raise InvalidArgument(name, f"{getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if not self.steps >= 1 or int(self.steps) != self.steps:
            raise InvalidArgument("steps", f"{self.steps} is no whole number of at least 1")
        if self.steps > _MOST_STEPS:
            raise InvalidArgument("steps", f"{self.steps:,} is more than {_MOST_STEPS:,}; 50 are usual")
        object.__setattr__(self, "steps", int(self.steps))
        if self.target_sum is not None:
            if not _LEAST_SUM <= self.target_sum <= _LARGEST_SUM:
                problem = f"{self.target_sum} is not from {_LEAST_SUM:g} to {_LARGEST_SUM:g}"
                raise InvalidArgument("target_sum", problem)
            object.__setattr__(self, "target_sum", float(self.target_sum))  # equal recipes are one text
        if self.min_genes is not None and self.min_genes < 1:
            raise InvalidArgument("min_genes", f"{self.min_genes} is not at least 1")

    def in_words(self) -> dict[str, str | float | int | bool]:
        """As an output records it; what the method does not use is left out."""
        words: dict[str, str | float | int | bool] = {
            "method": self.method,
            "baseline": "zero",
            "absolute": not self.signed,
            "precision": self.precision,
        }
        if self.method == "ig":
            words |= {"steps": self.steps, "quadrature": self.quadrature}
        if self.target_sum is not None:
            words["row_sum"] = self.target_sum
        return words


@dataclass(frozen=True, slots=True)
class Attribution:
    """A model in a directory and what to do with it. ``kind``: of the model, else recognised."""

    model: Path
    recipe: Recipe = field(default_factory=Recipe)
    kind: str | None = None
    device: str = "auto"

    def digest(self) -> str:
        """Digest of everything that changes the attributions of given cells; the device is not of it."""
        settings = json.dumps([asdict(self.recipe), self.kind])
        return bytes_digest(f"{tree_digest(self.model)}\0{settings}".encode())
