"""Sets that come in pairs, NAME_UP and NAME_DN, joined into one signed signature."""

from __future__ import annotations

import re
from collections import defaultdict

from insignia_model.listing import some
from insignia_model.reading.library import Signatures
from insignia_model.signature import Signature

_SUFFIX = re.compile(r"^(.+)[_.\- ](UP|DN|DOWN)$", re.IGNORECASE)


def join_up_down(sets: Signatures) -> Signatures:
    """Every NAME_UP and NAME_DN (or _DOWN) as NAME, in the place of the first; down is negative.

    A gene in both says nothing and is left out. Sets that cannot be joined stay as they are; the notes name
    them, and those that have no partner.
    """
    parts: dict[str, dict[str, list[str]]] = defaultdict(lambda: {"up": [], "down": []})
    for name in sets:
        if match := _SUFFIX.match(name):
            parts[match[1]]["up" if match[2].upper() == "UP" else "down"].append(name)
    joined: dict[str, Signature] = {}
    alone, unclear, overlaps = [], [], []
    for stem, found in parts.items():
        ups, downs = found["up"], found["down"]
        if not ups or not downs:
            alone += ups + downs
        elif len(ups) > 1 or len(downs) > 1 or stem in sets or not _positive(sets, [*ups, *downs]):
            unclear += ups + downs
        else:
            signature, n_both = _joined(stem, sets[ups[0]], sets[downs[0]])
            if signature is None:
                unclear += ups + downs
                continue
            overlaps += [f"{stem} ({n_both})"] if n_both else []
            joined[ups[0]] = joined[downs[0]] = signature
    result = dict((s.name, s) if (s := joined.get(name)) else (name, old) for name, old in sets.items())
    notes = [*sets.notes]
    if not joined:
        notes.append("no pair of sets NAME_UP and NAME_DN is there to be joined")
    notes += _notes(len(joined) // 2, alone, unclear, overlaps)
    return Signatures(result, notes, sets.rejected)


def _positive(sets: Signatures, names: list[str]) -> bool:
    return all(weight >= 0 for name in names for weight in sets[name].weights.values())


def _joined(stem: str, up: Signature, down: Signature) -> tuple[Signature | None, int]:
    """The signed signature (None: nothing is left of a part), and how many genes are in both parts."""
    both = up.weights.keys() & down.weights.keys()
    if len(both) in (len(up), len(down)):
        return None, len(both)
    weights = {gene: weight for gene, weight in up.weights.items() if gene not in both}
    weights |= {gene: -weight for gene, weight in down.weights.items() if gene not in both}
    return Signature(weights, stem), len(both)


def _notes(n_joined: int, alone: list[str], unclear: list[str], overlaps: list[str]) -> list[str]:
    notes = [f"{n_joined:,} pairs of up and down sets joined"] if n_joined else []
    if alone:
        notes.append(f"{len(alone):,} up or down sets without a partner stay as they are: {some(alone)}")
    if unclear:
        notes.append(
            f"{len(unclear):,} up or down sets are not joined (several of a kind, negative weights, one name "
            f"for two, or the same genes): {some(unclear)}"
        )
    if overlaps:
        notes.append(f"genes both up and down are left out of {len(overlaps):,} signatures: {some(overlaps)}")
    return notes
