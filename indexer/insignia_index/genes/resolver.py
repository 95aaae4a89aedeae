"""From the names that people write to the names of an atlas vocabulary.

A name of the vocabulary means itself, whatever else it may mean. Any other name is looked up in the gene
table, and means a gene of the vocabulary if there is no other way to read it:

- The vocabulary has a gene under its symbol; if not, under its Ensembl id; if not, under a previous symbol or
  alias that no other gene has (or, of a previous symbol, none but genes that the vocabulary has by symbol).
- An approved symbol means its gene, unless another gene of the vocabulary has it as previous symbol or alias.
- A previous symbol or alias means its gene, unless several genes have it (in the vocabulary or not).

Where several readings are left, or one that is not sure, the name is ambiguous: the candidates are told, and
none is used. Names written as in the table come before names in another case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from insignia_index.genes.suggest import Speller
from insignia_index.genes.table import GeneNames, GeneTable, without_version

#: Names that a resolver remembers; a server is asked for any.
_MOST_REMEMBERED = 200_000


class Found(NamedTuple):
    """What a name means: a name of the vocabulary, or else candidates, or else nothing.

    ``how``: the way there, see `insignia_model.genes.WAYS`. ``is_known``: whether there is a gene of the
    name, which the vocabulary may lack.
    """

    used: str | None = None
    how: str = ""
    candidates: tuple[str, ...] = ()
    is_known: bool = False


class Resolver:
    """Names against one vocabulary (name → id). Safe for many threads: what two find at once is the same."""

    def __init__(self, vocabulary: Mapping[str, int], table: GeneTable) -> None:
        self._vocabulary = vocabulary
        self._table = table
        self._by_capitals: dict[str, tuple[str, ...]] = {}
        self._by_ensembl: dict[str, tuple[str, ...]] = {}
        for name in vocabulary:
            capitals = name.upper()
            self._by_capitals[capitals] = (*self._by_capitals.get(capitals, ()), name)
            if capitals.startswith("ENS") and (gene := without_version(name)):
                self._by_ensembl[gene] = (*self._by_ensembl.get(gene, ()), name)
        self._found: dict[str, Found] = {}
        self._speller: Speller | None = None
        self._suggested: dict[str, tuple[str, ...]] = {}

    def find(self, name: str) -> Found:
        """What a name means."""
        found = self._found.get(name)
        if found is None:
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            found = self._found[name] = self._find(name)
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._vocabulary

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are not of the vocabulary."""
        vocabulary = self._vocabulary
        return [name for name in names if name not in vocabulary]

    def suggest(self, name: str) -> tuple[str, ...]:
        """Symbols that are spelled like a name, best first."""
        found = self._suggested.get(name)
        if found is None:
            if self._speller is None:
                self._speller = Speller(self._symbols())
            if len(self._suggested) >= _MOST_REMEMBERED:
                self._suggested.clear()
            found = self._suggested[name] = self._speller.suggest(name)
        return found

    def _find(self, name: str) -> Found:
        if name in self._vocabulary:
            return Found(name, "exact", is_known=True)
        ensembl = without_version(name)
        if ensembl is not None and (versions := self._by_ensembl.get(ensembl)):
            return self._only(versions, "ensembl")
        same = self._by_capitals.get(name.upper(), ())
        genes = self._table.written(name) if same else self._table.genes_of(ensembl or name)
        # unless, written like this, it is a name of other genes only
        if same and (not genes or any(same == self._columns(self._table[gene])[0] for gene in genes)):
            return self._only(same, "case")
        return self._read(name, ensembl or name, genes, same)

    def _read(self, name: str, known_as: str, genes: tuple[int, ...], same: tuple[str, ...]) -> Found:
        """What a name means that ``genes`` have, and that the vocabulary has as ``same`` but for the case."""
        readings = [(self._table[gene], *self._columns(self._table[gene])) for gene in genes]
        candidates = tuple(
            dict.fromkeys((*same, *(c for _, sure, others in readings for c in sure + others)))
        )
        if not candidates:
            return Found(is_known=bool(genes))
        approved = [reading for reading in readings if reading[0].symbol.upper() == known_as.upper()]
        if len(approved) == 1 and set(candidates) <= set(approved[0][1] + approved[0][2]):
            readings = approved
        gene, sure, _ = readings[0]
        if not same and len(sure) == 1 and all(reading[1] == sure for reading in readings):
            return Found(sure[0], self._way(known_as, gene, sure[0]), is_known=True)
        return Found(candidates=candidates, is_known=True)

    def _columns(self, gene: GeneNames) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the vocabulary that surely are a gene's (the best kind of them), and that may be."""
        for approved in (self._named(gene.symbol), self._with_ensembl(gene.ensembl)):
            if approved:
                return approved, ()
        previous = dict.fromkeys(v for name in gene.previous for v in self._named(name))
        named = previous | dict.fromkeys(v for name in gene.aliases for v in self._named(name))
        sure = tuple(v for v in named if self._is_surely(v, gene, v in previous))
        # as an alias of this gene, the approved symbol of another one says nothing
        maybe = tuple(v for v in named if v not in sure and (v in previous or not self._is_approved(v)))
        return sure, maybe

    def _is_surely(self, column: str, gene: GeneNames, is_previous: bool) -> bool:
        """Whether a name of the vocabulary, a previous symbol or alias of ``gene``, cannot be another gene's.

        A vocabulary is made of the symbols of its time. So a previous symbol that is an alias of other genes
        too is not theirs, if these are in the vocabulary under their own symbols.
        """
        # not every time this one: ArsB is an alias of SLURP1, and ARSB another gene
        others = [
            other for other in map(self._table.__getitem__, self._table.genes_of(column)) if other != gene
        ]
        if not others:
            return True
        return (
            is_previous
            and not self._is_approved(column)
            and all(
                column not in other.previous
                and (self._named(other.symbol) or self._with_ensembl(other.ensembl))
                for other in others
            )
        )

    def _is_approved(self, name: str) -> bool:
        return any(self._table[gene].symbol == name for gene in self._table.written(name))

    def _named(self, name: str) -> tuple[str, ...]:
        """The name as the vocabulary writes it, unless, written like that, it is one of other genes only."""
        if name in self._vocabulary:
            return (name,)
        same, genes = self._by_capitals.get(name.upper(), ()), self._table.written(name)
        return tuple(v for v in same if not (of := self._table.written(v)) or not set(of).isdisjoint(genes))

    def _with_ensembl(self, ensembl: str) -> tuple[str, ...]:
        return self._by_ensembl.get(ensembl) or ((ensembl,) if ensembl in self._vocabulary else ())

    def _way(self, name: str, gene: GeneNames, used: str) -> str:
        """How ``name`` leads to ``used``; of a symbol, how the vocabulary has the gene."""
        telling = used if name.upper() == gene.symbol.upper() else name
        if telling.upper() == gene.ensembl.upper() or telling in self._with_ensembl(gene.ensembl):
            return "ensembl"
        return "previous" if telling.upper() in map(str.upper, gene.previous) else "alias"

    @staticmethod
    def _only(names: tuple[str, ...], how: str) -> Found:
        if len(names) == 1:
            return Found(names[0], how, is_known=True)
        return Found(candidates=names, is_known=True)

    def _symbols(self) -> list[str]:
        """What may be suggested: the vocabulary's names, symbols in place of Ensembl ids."""
        symbols: dict[str, None] = {}
        for name in self._vocabulary:
            ensembl = without_version(name) or name
            names = [self._table[gene] for gene in self._table.written(ensembl)]
            symbols[names[0].symbol if names and names[0].ensembl == ensembl else name] = None
        return list(symbols)
