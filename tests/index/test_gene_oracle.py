"""Real names against a real vocabulary, compared with what pandas joins say.

The sets that the project carries and every name of the gene table are always used; all of MSigDB if the
environment variable INSIGNIA_DATA, or else the folder ../shared/data beside the project, has it.
"""

import os
from collections import Counter
from functools import cache
from pathlib import Path

import h5py
import pandas as pd
import pytest

from insignia_index import read_gmt
from insignia_index.genes.resolver import Resolver
from insignia_index.genes.table import human

PROJECT = Path(__file__).parents[2]
DATA = PROJECT / "tests" / "data"
WHOLE = Path(os.environ.get("INSIGNIA_DATA", PROJECT.parent / "shared" / "data"))


@cache
def vocabulary() -> dict[str, int]:
    with h5py.File(DATA / "pbmc3k.h5ad") as file:
        names = file["var"][file["var"].attrs["_index"]].asstr()[:]
    return {str(name): i for i, name in enumerate(names)}


@cache
def resolver() -> Resolver:
    return Resolver(vocabulary(), human())


@cache
def all_names() -> pd.DataFrame:
    """One row a (name, gene) of the table."""
    genes = human()
    rows = [(name, i) for i in range(len(genes)) for name in _flat(genes[i]) if name]
    return pd.DataFrame(rows, columns=["name", "gene"]).drop_duplicates()


def _flat(gene: tuple[str, str, tuple[str, ...], tuple[str, ...]]) -> list[str]:
    symbol, ensembl, previous, aliases = gene
    return [symbol, ensembl, *previous, *aliases]


@cache
def expected() -> dict[str, str]:
    """Name that only one gene has: name by which the vocabulary surely has that gene, if it has."""
    names = all_names()
    single = names[~names["name"].duplicated(keep=False)]
    genes = human()
    symbols = {i: genes[i].symbol for i in range(len(genes)) if genes[i].symbol in vocabulary()}
    others = pd.concat(
        [single[single["name"].isin(list(vocabulary()))], _previous_by_elimination(names, symbols)]
    )
    others = others[~others["gene"].isin(list(symbols))].drop_duplicates()
    others = others[~others["gene"].duplicated(keep=False)]
    used = symbols | dict(zip(others["gene"], others["name"], strict=True))
    found = single[single["gene"].isin(list(used))]
    return {name: used[gene] for name, gene in zip(found["name"], found["gene"], strict=True)}


def _previous_by_elimination(names: pd.DataFrame, symbols: dict[int, str]) -> pd.DataFrame:
    """(name, gene) where the name is but an alias of other genes, all in the vocabulary by symbol."""
    genes = human()
    shared = names[names["name"].duplicated(keep=False) & names["name"].isin(list(vocabulary()))]
    rows = []
    for name, among in shared.groupby("name")["gene"]:
        previous = [gene for gene in among if name in genes[gene].previous]
        others_known = all(gene in symbols for gene in among if gene not in previous)
        approved = any(genes[gene].symbol == name for gene in among)
        if len(previous) == 1 and others_known and not approved:
            rows.append((name, previous[0]))
    return pd.DataFrame(rows, columns=["name", "gene"])


def check(names: set[str]) -> Counter[str]:
    """Compare every name; how often each way was taken."""
    written = set(all_names()["name"])
    symbols = {human()[i].symbol for i in range(len(human()))}
    in_capitals: dict[str, set[str]] = {}
    for name in vocabulary():
        in_capitals.setdefault(name.upper(), set()).add(name)
    ways: Counter[str] = Counter()
    for name in sorted(names):
        found = resolver().find(name)
        if name in vocabulary():
            assert found[:2] == (name, "exact")
        elif name in expected() and (alike := in_capitals.get(name.upper(), set()) - {expected()[name]}):
            # such as ArsB, an alias of SLURP1, where the vocabulary has ARSB
            assert set(found.candidates) == {expected()[name], *alike}, name
        elif name in expected():
            assert found.used == expected()[name], name
            assert found.how in ("case", "previous", "alias", "ensembl"), name
        elif found.used is not None:
            # an approved symbol that is a name of other genes too, none of which the vocabulary has;
            # or the name asked, or the vocabulary's, is in the table in another case only
            assert name in symbols or name not in written or found.used not in written, name
        assert all(candidate in vocabulary() for candidate in found.candidates)
        ways[found.how or ("ambiguous" if found.candidates else "missing")] += 1
    return ways


def test_every_name_of_the_gene_table() -> None:
    ways = check(set(all_names()["name"]))
    assert ways["exact"] > 20_000
    assert ways["previous"] > 5_000
    assert ways["alias"] > 20_000
    assert ways["ensembl"] > 20_000
    assert ways["ambiguous"] > 500


def test_every_gene_of_the_sets_that_the_project_carries() -> None:
    sets = read_gmt(DATA / "signatures.gmt")
    ways = check({gene for signature in sets.values() for gene in signature.genes})
    assert ways["exact"] > 1_000
    assert ways["previous"] > 10


def test_every_membership_of_msigdb() -> None:
    files = sorted((WHOLE / "signatures").glob("msigdb_*.gmt*"))
    if not files:
        pytest.skip(f"{WHOLE} has no signatures/msigdb_*.gmt; set INSIGNIA_DATA to a folder that has them")
    names = {gene for file in files for signature in read_gmt(file).values() for gene in signature.genes}
    assert check(names)["exact"] > 15_000


def test_what_becomes_of_ms1() -> None:
    genes = read_gmt(DATA / "signatures.gmt")["MS1"].genes
    found = {gene: resolver().find(gene) for gene in genes}
    assert len(found) == 99
    assert sum(f.how == "exact" for f in found.values()) == 86
    inexact = {gene: f[:2] for gene, f in found.items() if f.used not in (None, gene)}
    assert inexact == {"FAM65B": ("RIPOR2", "previous"), "CTC-490G23.2": ("AC005392.2", "alias")}
    assert [gene for gene, f in found.items() if f.used is None] == [
        "RP11-295G20.2",
        "RP11-196G18.3",
        "RP1-55C23.7",
        "HYI-AS1",
        "AC097495.2",
        "CTB-35F21.5",
        "C19orf35",
        "RP11-800A3.7",
        "CTD-2105E13.14",
        "RP11-123K3.9",
        "CTC-246B18.10",
    ]
    assert not any(f.candidates for f in found.values())
