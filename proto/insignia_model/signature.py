"""A signature: the genes of a program and their weights."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard

from insignia_model.errors import InvalidSignature


@dataclass(frozen=True, slots=True)
class Signature:
    """Gene weights, in the order given. A plain gene list has weight 1; negative: should be low."""

    weights: Mapping[str, float]
    name: str = field(default="signature")

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or printable(self.name) != self.name:
            raise InvalidSignature(printable(str(self.name)), "its name is not Unicode text")
        if not isinstance(self.weights, Mapping):
            raise InvalidSignature(self.name, "its weights are no mapping; Signature.of takes other lists")
        if not self.weights:
            raise InvalidSignature(self.name, "it has no genes")
        for gene, weight in self.weights.items():
            if not isinstance(gene, str) or not gene.strip() or printable(gene) != gene:
                raise InvalidSignature(self.name, f"{gene!r} is not a gene name")
            if not math.isfinite(weight):
                raise InvalidSignature(
                    self.name, f"gene {gene!r} has the weight {weight}, which is not finite"
                )
        if all(weight == 0 for weight in self.weights.values()):
            raise InvalidSignature(self.name, "every weight is 0")

    @classmethod
    def of(cls, value: SignatureLike, name: str = "signature") -> Signature:
        """Signature from a list of genes, a mapping {gene: weight}, a Series of weights or a `Signature`.

        A gene that is listed twice counts once, as in the reference package.
        """
        if isinstance(value, Signature):
            return value
        if isinstance(value, str):
            raise InvalidSignature(value, "a string is not a gene list; pass a list such as ['CD14', 'LYZ']")
        if hasattr(value, "columns"):
            raise InvalidSignature(name, "a table is no list of genes; pass one of its columns")
        if _has_weights(value):
            pairs = ((_clean(gene, name), _weight(gene, w, name)) for gene, w in value.items())
            return cls(_joined(pairs, name), name)
        if not isinstance(value, Iterable):
            raise InvalidSignature(name, f"{value!r} is no list of genes")
        return cls({_clean(gene, name): 1.0 for gene in value}, name)

    @classmethod
    def parse(cls, text: str, name: str = "signature") -> Signature:
        """Signature from ``GENE[:WEIGHT],...``, such as ``CD14,LYZ:2,CD3E:-1``."""
        found = []
        for item in filter(None, (part.strip() for part in text.split(","))):
            gene, colon, weight = item.rpartition(":")
            try:
                found.append((gene.strip() if colon else item, float(weight) if colon else 1.0))
            except ValueError as error:
                raise InvalidSignature(name, f"{item!r} is not GENE or GENE:WEIGHT") from error
        return cls(_joined(found, name), name)

    @property
    def genes(self) -> tuple[str, ...]:
        """Gene names as given."""
        return tuple(self.weights)

    @property
    def has_negative(self) -> bool:
        """Whether some gene should be low."""
        return any(weight < 0 for weight in self.weights.values())

    def __len__(self) -> int:
        return len(self.weights)


def printable(text: str) -> str:
    """The text, with what is no Unicode (JSON can have halves of characters) written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _joined(pairs: Iterable[tuple[str, float]], name: str) -> dict[str, float]:
    """Weights by gene; one that stands twice has to have the same weight."""
    weights: dict[str, float] = {}
    for gene, weight in pairs:
        before = weights.setdefault(gene, weight)
        if before != weight and not math.isnan(weight):
            raise InvalidSignature(
                name, f"gene {gene!r} stands twice, with the weights {before:g} and {weight:g}; keep one"
            )
    return weights


def repeated(genes: Iterable[str]) -> list[str]:
    """Genes that stand somewhere before already."""
    seen: set[str] = set()
    again = []
    for gene in genes:
        if gene in seen:
            again.append(gene)
        seen.add(gene)
    return again


SignatureLike: TypeAlias = Signature | Mapping[str, float] | Iterable[str]


def _has_weights(value: object) -> TypeGuard[Mapping[str, float]]:
    """Whether it is a mapping, or a Series of numbers, which has the same `items`."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return isinstance(value, Mapping) or (hasattr(value, "items") and kind in ("i", "u", "f"))


def _weight(gene: object, weight: Any, name: str) -> float:
    try:
        return float(weight)
    except (TypeError, ValueError) as error:
        raise InvalidSignature(
            name, f"gene {gene!r} has the weight {weight!r}, which is no number"
        ) from error


def _clean(gene: object, name: str) -> str:
    """A gene's name; a missing value, which pandas may put among them, would be read as the gene NaN."""
    if isinstance(gene, str):
        return gene.strip()
    if isinstance(gene, numbers.Integral) and not isinstance(gene, bool):
        return str(gene)  # of a database
    raise InvalidSignature(name, f"{gene!r} is no name of a gene; leave it out")
