"""A signature: the genes of a program and their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from insignia_model.errors import InvalidSignature

SignatureLike: TypeAlias = "Signature | Mapping[str, float] | Iterable[str]"


@dataclass(frozen=True, slots=True)
class Signature:
    """Gene weights, in the order given. A plain gene list has weight 1; negative: should be low."""

    weights: Mapping[str, float]
    name: str = field(default="signature")

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or printable(self.name) != self.name:
            raise InvalidSignature(printable(str(self.name)), "its name is not Unicode text")
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
        """Signature from a list of genes, a mapping {gene: weight} or a `Signature`.

        A gene that is listed twice counts once, as in the reference package.
        """
        if isinstance(value, Signature):
            return value
        if isinstance(value, str):
            raise InvalidSignature(value, "a string is not a gene list; pass a list such as ['CD14', 'LYZ']")
        if isinstance(value, Mapping):
            return cls(_joined(((_clean(gene), float(w)) for gene, w in value.items()), name), name)
        if not isinstance(value, Iterable):
            raise InvalidSignature(name, f"{value!r} is no list of genes")
        return cls({_clean(gene): 1.0 for gene in value}, name)

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


def _clean(gene: object) -> str:
    return gene.strip() if isinstance(gene, str) else str(gene)
