"""Symbols that are spelled like a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable

#: Suggestions of one name, at most.
MOST = 3
#: Names of one report that get suggestions: the first so many. One takes about a millisecond.
MOST_NAMES = 50
#: A name with so many digits is an accession or a clone, of which any other number is another one.
_ACCESSION_DIGITS = 4


class Speller:
    """Finds symbols by their spelling, whatever their case and punctuation."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self._symbols = list(symbols)
        self._plain = [_plain(symbol) for symbol in self._symbols]
        self._longest = max(map(len, self._plain), default=0)

    def suggest(self, name: str) -> tuple[str, ...]:
        """Symbols within one edit of a name (two, if it has six characters or more), nearest first.

        An edit inserts, deletes or replaces a character or swaps two neighbours (optimal string alignment).
        Of the equally near, those with the same digits come first: IL17A is not a misspelling of IL17B.
        Ties go to the order of the alphabet. Names with four digits or more must have the same.
        """
        # here: most searches suggest nothing
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        plain = _plain(name)
        most = 1 if len(plain) < 6 else 2
        # a text of a thousand letters would take a hundred times as long, and find nothing
        if not 2 <= len(plain) <= self._longest + most:
            return ()
        near = process.extract(plain, self._plain, scorer=OSA.distance, score_cutoff=most, limit=None)
        digits = _digits(plain)
        ranked = sorted(
            (int(distance), _digits(text) != digits, self._symbols[place])
            for text, distance, place in near
            if len(digits) < _ACCESSION_DIGITS or _digits(text) == digits
        )
        # what is farther than the nearest only distracts
        return tuple(symbol for distance, _, symbol in ranked if distance == ranked[0][0])[:MOST]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.upper()))


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))
