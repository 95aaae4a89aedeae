"""Signatures by name, and what there is to say about where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from insignia_model.errors import InvalidSignature
from insignia_model.reading.source import Source
from insignia_model.signature import Signature, printable


class Signatures(dict[str, Signature]):
    """Signatures by name, in the order of the file.

    ``notes``: sentences about what was left out or joined. ``rejected``: name → reason of the sets that are
    no signature; a reader that is not ``lenient`` refuses the file instead.
    """

    def __init__(
        self,
        signatures: Mapping[str, Signature] | Iterable[tuple[str, Signature]] = (),
        notes: Iterable[str] = (),
        rejected: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(signatures)
        self.notes = tuple(notes)
        self.rejected = dict(rejected or {})


@dataclass(frozen=True, slots=True)
class RawSet:
    """A set as a reader found it, before it is checked: ``line`` (from 1) is where it begins, if known."""

    name: str
    weights: Mapping[str, float]
    line: int | None = None
    problem: str = ""


def collect(source: Source, sets: Iterable[RawSet], lenient: bool, notes: list[str]) -> Signatures:
    """Check the sets of a file. Lenient: a bad set is rejected with its reason, the others stay."""
    found: dict[str, Signature] = {}
    rejected: dict[str, str] = {}
    for raw in sets:
        key, problem = printable(raw.name), raw.problem
        if key in found or key in rejected:
            problem = f"repeats the set {raw.name!r}"
            key = f"{key} (line {raw.line})"
        try:
            if problem:
                raise source.error(problem, raw.line)
            found[key] = _signature(source, raw)
        except InvalidSignature as error:
            if not lenient:
                raise
            rejected[key] = error.message
    if not found and not rejected:
        raise source.error("has no signature")
    return Signatures(found, notes, rejected)


def _signature(source: Source, raw: RawSet) -> Signature:
    try:
        return Signature(raw.weights, raw.name)
    except InvalidSignature as error:
        problem = error.message.partition(": ")[2]
        raise source.error(f"set {raw.name!r}: {problem}", raw.line) from error
