"""The gene cache changes no answer, whatever it may hold."""

import ctypes
import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insignia_index import Atlas, InputFile, build_atlas, remove_studies
from insignia_index.catalog.store import Store
from insignia_index.search.gene_cache import GENE_CACHE_BYTES, GeneCache, Postings
from insignia_index.snapshot import Snapshot
from insignia_model.errors import AtlasCorrupt

from . import forge
from .made import Study, blocks_of, build, study, write_h5ad

#: Nothing is copied; a few genes are, so that the cache begins anew all the time; everything small is.
BUDGETS = [0, 30_000, GENE_CACHE_BYTES]
#: Lists, bitmaps and full columns; the last ones are too large to be copied, one has no posting at all.
DENSITIES = [0.0, *np.geomspace(0.001, 0.3, 15), 0.5, 0.9, 1.0, 1.0]
GENES = [f"G{i}" for i in range(len(DENSITIES))]
NOWHERE, DENSE = "G0", GENES[-1]
VALUE_DTYPES = ["float16", "float32"]


def made(name: str, n_cells: int, genes: list[str] = GENES, seed: int = 0) -> Study:
    densities = [DENSITIES[GENES.index(gene)] if gene in GENES else 0.2 for gene in genes]
    samples = [f"s{i // 1500}" for i in range(n_cells)]
    return study(name, n_cells, genes, density=densities, seed=seed, signed=True, sample=samples)


@pytest.fixture(scope="module", params=VALUE_DTYPES)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several studies of several blocks; one measured few of the genes, one is tiny."""
    studies = [made("A", 12_000), made("B", 9_000, GENES[::3]), made("C", 30), made("D", 5_900)]
    with blocks_of(6_000):
        return build(tmp_path_factory.mktemp("genes"), studies, value_dtype=request.param)


@contextmanager
def by_budget(path: Path, **options: Any) -> Iterator[list[Atlas]]:
    """The atlas with each of the budgets."""
    with ExitStack() as stack:
        yield [stack.enter_context(Atlas.open(path, cache_bytes=n, **options)) for n in BUDGETS]


@contextmanager
def snapshot_of(path: Path) -> Iterator[Snapshot]:
    store = Store(path)
    snapshot = Snapshot(path, store)
    yield snapshot
    snapshot.close()
    store.close()


def signatures(n: int, seed: int = 1) -> list[dict[str, float]]:
    """Genes and weights of all sorts, the same genes again and again."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        genes = rng.choice(GENES, rng.integers(1, len(GENES)), replace=False).tolist()
        found.append({gene: float(rng.choice([1.0, -1.0, 0.3])) for gene in genes})
    return found


def answer(atlas: Atlas, signature: Any) -> list[Any]:
    """All that a search says, and the bits of every score."""
    result = atlas.search(signature, k=50, group_by=("study", "sample"), quantiles=True)
    tables = (result.cell_table, result.group_table, result.sample_table)
    rows = [[*map(repr, table.rows())] for table in tables]
    return [result.cutoff, result.n_hits, rows, atlas.scores(signature).values.tobytes()]


def test_answers_are_the_same_bit_for_bit_whatever_the_budget(path: Path) -> None:
    with by_budget(path, threads=2) as atlases:
        for signature in [*signatures(12), *([gene] for gene in GENES)] * 2:
            uncached, *cached = [answer(atlas, signature) for atlas in atlases]
            assert cached == [uncached] * len(cached)


def test_a_gene_of_a_warm_cache_scores_as_in_an_atlas_just_opened(path: Path) -> None:
    with Atlas.open(path) as warm:
        for signature in signatures(6):
            warm.search(signature)
        for signature in signatures(4, seed=2):
            with Atlas.open(path) as cold:
                assert answer(cold, signature) == answer(warm, signature)


@pytest.mark.parametrize("budget", BUDGETS)
def test_threads_that_search_at_once_get_the_answers_of_one(path: Path, budget: int) -> None:
    asked = signatures(12, seed=3)
    with Atlas.open(path, threads=1, cache_bytes=0) as atlas:
        wanted = [answer(atlas, signature) for signature in asked]
    order = np.random.default_rng(4).permutation(np.tile(np.arange(len(asked)), 4)).tolist()
    with Atlas.open(path, threads=2, cache_bytes=budget) as atlas, ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda i: answer(atlas, asked[i]), order)]
    assert [i for i, one in zip(order, found, strict=True) if one != wanted[i]] == []


def test_a_gene_without_postings_adds_nothing(path: Path) -> None:
    with by_budget(path) as atlases:
        for atlas in atlases:
            assert not atlas.scores([NOWHERE]).values.any()
            assert atlas.search([NOWHERE]).n_hits == 0
            alone = atlas.scores(["G7"], aggregate="sum").values
            both = atlas.scores(["G7", NOWHERE], aggregate="sum").values
            assert both.tobytes() == alone.tobytes()


@pytest.mark.parametrize("budget", BUDGETS)
def test_small_containers_are_copied_as_long_as_there_is_room_and_large_ones_never(
    path: Path, budget: int
) -> None:
    with snapshot_of(path) as snapshot:
        cache = GeneCache(snapshot, budget)
        ids = {gene: snapshot.gene_ids[gene] for gene in (NOWHERE, "G1", "G7", DENSE)}
        payloads = {gene: int(cache.get(np.array([i])).payloads[0]) for gene, i in ids.items()}
    assert payloads[NOWHERE] == payloads[DENSE] == 0
    assert (payloads["G1"] != 0) == (payloads["G7"] != 0) == (budget > 0)


def entries_of(postings: Postings, n_blocks: int) -> list[bytes]:
    """What lies at the addresses of the entries."""
    return [ctypes.string_at(address, 8 * n_blocks) for address in postings.entries.tolist()]


def test_postings_outlast_the_cache_beginning_anew_and_no_longer(path: Path) -> None:
    with snapshot_of(path) as snapshot:
        cache = GeneCache(snapshot, 30_000)
        first = cache.get(np.arange(8))
        kept_by = weakref.ref(first._kept_by)
        used = entries_of(first, len(snapshot.table))
        for gene in range(8, 16):
            cache.get(np.array([gene]))
        again = cache.get(np.arange(8))
        assert again._kept_by is not first._kept_by
        # a search that began before still finds its genes where they were
        assert entries_of(first, len(snapshot.table)) == used
        assert kept_by() is not None
        del first
        gc.collect()
        assert kept_by() is None


def test_a_gene_that_was_asked_for_stays_where_it_is(path: Path) -> None:
    with snapshot_of(path) as snapshot:
        cache = GeneCache(snapshot, GENE_CACHE_BYTES)
        first = cache.get(np.array([3, 9]))
        cache.get(np.arange(len(GENES)))
        again = cache.get(np.array([9, 3]))
        assert again.entries.tolist() == first.entries[::-1].tolist()
        assert again.payloads.tolist() == first.payloads[::-1].tolist()


@pytest.mark.parametrize("value_dtype", VALUE_DTYPES)
def test_after_a_refresh_answers_are_those_of_the_new_revision(tmp_path: Path, value_dtype: str) -> None:
    def add(one: Study) -> None:
        write_h5ad(tmp_path / "more.h5ad", one)
        build_atlas(path, [InputFile(tmp_path / "more.h5ad")], replace=True)

    with blocks_of(200):
        path = build(tmp_path, [made("A", 500), made("B", 300)], value_dtype=value_dtype)
        steps = [
            lambda: add(made("0", 450, GENES[::2])),  # before the others: their rows move
            lambda: add(made("A", 350, seed=1)),
            lambda: remove_studies(path, ["B"]),
            lambda: add(made("E", 250, [*GENES[5:], "NEW"])),
        ]
        asked = [*signatures(4), [NOWHERE], [DENSE], ["NEW", "G5"]]
        with by_budget(path, threads=2) as atlases:
            earlier = [answer(atlases[0], signature) for signature in asked]
            for step in steps:
                assert [answer(atlas, signature) for atlas in atlases for signature in asked] == earlier * 3
                step()
                assert all(atlas.refresh() for atlas in atlases)
                with Atlas.open(path, cache_bytes=0) as fresh:
                    wanted = [answer(fresh, signature) for signature in asked]
                assert [answer(atlas, signature) for atlas in atlases for signature in asked] == wanted * 3
                assert wanted != earlier
                earlier = wanted


@pytest.mark.parametrize("budget", BUDGETS)
def test_scores_that_are_being_read_stay_those_of_their_revision(tmp_path: Path, budget: int) -> None:
    signature = GENES[3:14]
    with blocks_of(100):
        path = build(tmp_path, [made("A", 500), made("B", 300)])
        with Atlas.open(path, threads=1, cache_bytes=budget) as atlas:
            wanted = [(chunk.study, chunk.scores.tolist()) for chunk in atlas.iter_scores(signature)]
            reading = atlas.iter_scores(signature)
            found = [next(reading)]
            remove_studies(path, ["A"])
            atlas.refresh()
            for other in signatures(10):
                atlas.search(other)
            gc.collect()
            found += reading
    assert [(chunk.study, chunk.scores.tolist()) for chunk in found] == wanted
    assert len(found) > 3


@pytest.mark.parametrize("budget", BUDGETS)
def test_a_damaged_container_is_noticed_when_its_gene_is_first_asked_for(tmp_path: Path, budget: int) -> None:
    path = build(tmp_path, [study("A", 100, 6, density=0.5), study("B", 100, 6, density=0.5)])
    postings = forge.Postings(path)
    with Atlas.open(path) as atlas:
        wanted = answer(atlas, ["G1", "G5"])
    postings.container(2)[4] ^= 1
    postings.raw.tofile(postings.file)
    with Atlas.open(path, threads=2, cache_bytes=budget) as atlas, ThreadPoolExecutor(4) as pool:
        assert answer(atlas, ["G1"])
        for signature in (["G2"], ["G1", "G2", "G5"], ["G2"]):  # an error is not forgotten
            with pytest.raises(AtlasCorrupt, match=r"study 'A', block 0, gene G2: .*checksum"):
                atlas.search(signature)
            with pytest.raises(AtlasCorrupt):
                atlas.scores(signature)
        for asked in [pool.submit(atlas.search, ["G2", gene]) for gene in ("G0", "G3", "G4", "G5")]:
            assert isinstance(asked.exception(), AtlasCorrupt)
        assert answer(atlas, ["G1", "G5"]) == wanted
