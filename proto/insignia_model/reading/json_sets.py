"""Signatures as JSON: one or many, as gene lists or with weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from insignia_model.reading.library import RawSet
from insignia_model.reading.source import Source

#: Key of the gene list in the JSON files that MSigDB offers: {name: {"geneSymbols": [...], ...}}.
_MSIGDB_GENES = "geneSymbols"
SHAPES = "{name: [genes]}, {name: {gene: weight}}, [genes] or {gene: weight}"


def json_sets(source: Source, name: str | None) -> Iterator[RawSet]:
    """Sets of a JSON text; a lone list or {gene: weight} is called ``name``, or else as the file."""
    value = _parsed(source)
    lone = name or source.stem
    if isinstance(value, list):
        yield _listed(lone, value)
    elif not isinstance(value, dict):
        raise source.error(f"is {_kind(value)}; signatures are {SHAPES}")
    elif value and all(_is_number(weight) for weight in value.values()):
        yield _weighted(lone, value)
    else:
        for key, item in value.items():
            yield _named(key, item)


def _parsed(source: Source) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise source.error(f"{next(key for key in keys if keys.count(key) > 1)!r} stands twice")
        return found

    try:
        return json.loads(source.text, object_pairs_hook=unique, parse_int=float)
    except json.JSONDecodeError as error:
        raise source.error(f"is no JSON: column {error.colno}: {error.msg}", error.lineno) from error
    except RecursionError as error:
        raise source.error("is nested too deeply for JSON of signatures") from error


def _named(name: str, value: Any) -> RawSet:
    if isinstance(value, list):
        return _listed(name, value)
    if isinstance(value, dict) and isinstance(value.get(_MSIGDB_GENES), list):
        return _listed(name, value[_MSIGDB_GENES])
    if isinstance(value, dict):
        return _weighted(name, value)
    return RawSet(name, {}, problem=f"{name!r} is {_kind(value)}, not [genes] or {{gene: weight}}")


def _listed(name: str, genes: list[Any]) -> RawSet:
    weights: dict[str, float] = {}
    for place, gene in enumerate(genes):
        if not isinstance(gene, str):
            return RawSet(name, {}, problem=f"{name!r}[{place}] is {_kind(gene)}, not a gene name")
        weights[gene.strip()] = 1.0
    return RawSet(name, weights)


def _weighted(name: str, value: dict[str, Any]) -> RawSet:
    weights: dict[str, float] = {}
    for gene, weight in value.items():
        if not _is_number(weight):
            return RawSet(name, {}, problem=f"{name!r}[{gene!r}] is {_kind(weight)}, not a weight")
        if gene.strip() in weights:
            return RawSet(name, {}, problem=f"gene {gene.strip()!r} of {name!r} stands twice")
        weights[gene.strip()] = weight
    return RawSet(name, weights)


def _is_number(value: Any) -> bool:
    return isinstance(value, float)  # integers are read as such


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: f"the text {value!r}", type(None): "null"}
    return names.get(type(value), repr(value))
