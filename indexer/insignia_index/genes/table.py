"""The names of a species' genes: symbol, Ensembl id, previous symbols and aliases.

Packed: gzip of lines ``symbol<tab>Ensembl id<tab>previous symbols<tab>aliases``, the last two separated by
``|``, sorted by symbol and Ensembl id; lines that begin with ``#`` say where it comes from.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterable
from functools import cache, cached_property
from importlib.resources import files
from typing import NamedTuple

_SEPARATOR = "|"
_VERSIONED = re.compile(r"(ENS[A-Z]*G[0-9]{11})(\.[0-9]+)?", re.IGNORECASE)


class GeneNames(NamedTuple):
    """Names of one gene; ``ensembl`` is empty where it has no Ensembl id."""

    symbol: str
    ensembl: str = ""
    previous: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


class GeneTable:
    """Genes by name. A gene is an index; ``lines`` hold its packed names."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        # a gene, or several: a tuple for each of 140,000 names would take three times as long to make
        self._genes_of: dict[str, int | tuple[int, ...]] = {}
        genes_of = self._genes_of
        for gene, line in enumerate(lines):
            # as a set: a name that is both previous symbol and alias is one name
            for name in set(line.replace(_SEPARATOR, "\t").split("\t")):
                known = genes_of.setdefault(name, gene)
                if name and known != gene:
                    genes_of[name] = (*_several(known), gene)
        genes_of.pop("", None)

    @classmethod
    def of(cls, genes: Iterable[GeneNames]) -> GeneTable:
        """Table of the genes, in the order in which it is packed."""
        rows = sorted(
            (g.symbol, g.ensembl, _SEPARATOR.join(g.previous), _SEPARATOR.join(g.aliases)) for g in genes
        )
        return cls(["\t".join(row) for row in rows])

    @classmethod
    def unpack(cls, raw: bytes | memoryview) -> GeneTable:
        """Table that `pack` wrote; `ValueError` if it is damaged."""
        try:
            text = gzip.decompress(raw).decode()
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise ValueError(f"it is no gene table ({error})") from error
        lines = [line for line in text.split("\n") if line and not line.startswith("#")]
        if any(line.count("\t") != 3 for line in lines):
            raise ValueError("a line has not four columns")
        return cls(lines)

    def pack(self, source: str = "") -> bytes:
        """As stored; the same names give the same bytes. ``source`` is kept as a comment."""
        comment = "".join(f"# {line}\n" for line in source.splitlines())
        body = "".join(f"{line}\n" for line in self._lines)
        return gzip.compress((comment + body).encode(), 9, mtime=0)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, gene: int) -> GeneNames:
        symbol, ensembl, previous, aliases = self._lines[gene].split("\t")
        return GeneNames(symbol, ensembl, _names(previous), _names(aliases))

    def written(self, name: str) -> tuple[int, ...]:
        """Genes that have the name, written like this."""
        return _several(self._genes_of.get(name, ()))

    def genes_of(self, name: str) -> tuple[int, ...]:
        """Genes that have the name, written like this; if none has, in another case."""
        if name in self._genes_of:
            return self.written(name)
        capitals = name.upper()
        return tuple(dict.fromkeys(self.written(capitals) + self._by_capitals.get(capitals, ())))

    @cached_property
    def _by_capitals(self) -> dict[str, tuple[int, ...]]:
        """Genes by the names that are not all capitals, written in capitals."""
        found: dict[str, tuple[int, ...]] = {}
        for name, genes in self._genes_of.items():
            capitals = name.upper()
            if capitals != name:
                found[capitals] = found.get(capitals, ()) + _several(genes)
        return found


@cache
def human() -> GeneTable:
    """The human genes of HGNC; HUMAN.md says of when."""
    return GeneTable.unpack((files(__package__) / "human.tsv.gz").read_bytes())


def without_version(name: str) -> str | None:
    """Ensembl gene id without its version, in capitals; None if the name is no such id."""
    match = _VERSIONED.fullmatch(name)
    return match[1].upper() if match else None


def _names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(_SEPARATOR)) if joined else ()


def _several(genes: int | tuple[int, ...]) -> tuple[int, ...]:
    return (genes,) if isinstance(genes, int) else genes
