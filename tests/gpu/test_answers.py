"""Answers from the device are those of the processor, whatever is asked."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insignia_index import Atlas, HitRule, SearchRequest

from ..index import strategies
from ..index.made import Study, blocks_of, build, study
from .conftest import OpenAtlas
from .equal import assert_same, facts

DENSITIES = (0.0005, 0.01, 0.04, 0.07, 0.3, 0.6, 0.93, 0.97, 1.0)
GENES = [f"G{i}" for i in range(4 * len(DENSITIES))]
RULES = [
    "percentile:95", "percentile:0", "percentile:100", "percentile:50", "quantile:0.37", "quantile:0.9999",
    "value:1.5", "value:-1", "zscore:2", "zscore:-3", "top:1", "top:37", "top:100000000",
]  # fmt: skip


def studies(n_cells: int) -> list[Study]:
    """Three studies with containers of every kind; the scores of the second tie."""
    density = DENSITIES * 4
    sizes = {"big": n_cells, "ties": 700, "tiny": 3}
    made = []
    for name, n in sizes.items():
        batch = [i % 7 for i in range(n)]
        one = study(name, n, GENES, density=density, seed=5, signed=name == "big", batch=batch)
        made.append(one)
    made[1] = made[1].with_(values=np.minimum(np.ceil(made[1].values), 2).astype(np.float32))
    return made


# more cells than a tile and than a block of float32, an odd number, not a multiple of 32 or 128
@pytest.fixture(
    scope="module", params=[("float16", 65_536), ("float16", 5_001), ("float32", 65_536)], ids=str
)
def atlas(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, open_on_device: OpenAtlas
) -> Iterator[Atlas]:
    value_dtype, block_cells = request.param
    with blocks_of(block_cells):
        path = build(tmp_path_factory.mktemp("atlas"), studies(17_123), value_dtype=value_dtype)
    with open_on_device(path) as opened:
        assert opened.info().n_cells_on_device == opened.info().n_cells
        yield opened


@pytest.mark.parametrize("genes", [GENES, GENES[:1], GENES[3:5], GENES[-9:]], ids=len)
def test_scores_are_those_of_the_processor_bit_for_bit(atlas: Atlas, genes: list[str]) -> None:
    weights = dict(zip(genes, np.random.default_rng(1).normal(0, 1, len(genes)).tolist(), strict=True))
    for aggregate in ("mean", "sum"):
        for signature in (genes, weights):
            assert_same(atlas, SearchRequest.of(signature, aggregate=aggregate))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("genes", [["G0"], GENES[8:20]], ids=["nearly all zero", "many genes"])
def test_every_hit_rule(atlas: Atlas, rule: str, genes: list[str]) -> None:
    for where in (None, {"batch": [1, 4]}, {"study": "ties"}):
        assert_same(atlas, SearchRequest.of(genes, hits=rule, where=where, k=20))


@pytest.mark.parametrize("k", [0, 1, 100, 9_000, 10**6])
@pytest.mark.parametrize("genes", [["G0"], GENES[8:20]], ids=["nearly all zero", "many genes"])
def test_every_k(atlas: Atlas, k: int, genes: list[str]) -> None:
    for where in (None, {"study": ["ties", "tiny"]}, {"batch": 3}):
        assert_same(atlas, SearchRequest.of(genes, hits="top:50", where=where, k=k))


def test_a_filter_that_nothing_passes(atlas: Atlas) -> None:
    result = atlas.search(GENES, where={"batch": 99})
    assert (result.n_cells, result.n_hits, result.cutoff) == (0, 0, None)
    assert len(result.cell_table) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"quantiles": True},
        {"contrasts": ["batch=1:2"], "min_cells": 1},
        {"compare": True, "min_cells": 1},
        {"where": {"batch": [0, 1, 2]}, "group_by": ("study", "batch"), "quantiles": True},
        {"min_coverage": 1.0},
    ],
    ids=str,
)
def test_whole_answers(atlas: Atlas, options: dict[str, object]) -> None:
    signature = {"G7": 1.0, "G13": -0.5, "G22": 2.0}
    with Atlas.open(atlas.path, threads=1) as processor:
        wanted = processor.search(signature, **options)
        found = atlas.search(signature, **options)
    assert facts(found) == facts(wanted)


def test_more_genes_than_are_held_at_once(tmp_path: Path, open_on_device: OpenAtlas) -> None:
    genes = [f"G{i}" for i in range(600)]
    made = study("many", 300, genes, density=[DENSITIES[i % len(DENSITIES)] for i in range(600)])
    with open_on_device(build(tmp_path, [made])) as atlas:
        assert_same(atlas, SearchRequest.of(genes, k=300))


@pytest.mark.parametrize("value_dtype", ["float16", "float32"])
def test_samples_of_any_size_have_the_statistics_of_the_processor(
    tmp_path: Path, open_on_device: OpenAtlas, value_dtype: str
) -> None:
    # around the bound between few and many cells, and several remainders of sixteen
    sizes = [1, 15, 16, 17, 1023, 1024, 1025, 1033, 1039, 2048, 2051, 4099]
    samples = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
    np.random.default_rng(0).shuffle(samples)
    made = study("a", len(samples), GENES[:9], density=DENSITIES, signed=True, sample=samples.astype(object))
    with open_on_device(build(tmp_path, [made, study("b", 50, GENES[:9])], value_dtype=value_dtype)) as atlas:
        for hits in ("zscore:1.5", "percentile:95"):
            for where in (None, {"sample": ["s3", "s11"]}, {"study": "b"}):
                assert_same(atlas, SearchRequest.of(GENES[2:9], hits=hits, where=where))


@pytest.mark.parametrize("size", [1e-30, 1e-36])
def test_numbers_that_a_gpu_takes_for_zero_unless_told_otherwise(
    tmp_path: Path, open_on_device: OpenAtlas, size: float
) -> None:
    made = study("small", 300, GENES[:4], density=[0.02, 0.4, 1.0, 0.1])
    path = build(tmp_path, [made.with_(values=(made.values * size).astype(np.float32))])
    with open_on_device(path) as atlas:
        assert atlas.search(GENES[:4]).to_dict()["cells"][0]["score"] > 0
        for weights in ({"G1": 1.0}, {"G0": 0.3, "G1": 0.001, "G2": 0.01, "G3": 1e-4}):
            assert_same(atlas, SearchRequest.of(weights, k=20))


def test_more_tiles_than_threads_and_ties_in_all_of_them(tmp_path: Path, open_on_device: OpenAtlas) -> None:
    made = study("tied", 6_000, GENES[:3], density=[0.5, 0.02, 1.0], batch=[i % 3 for i in range(6_000)])
    made = made.with_(values=np.minimum(np.ceil(made.values), 1).astype(np.float32))
    with blocks_of(40):
        path = build(tmp_path, [made, study("other", 90, GENES[:3])])
    with open_on_device(path) as atlas:
        assert len(atlas._session.snapshot.table) > 2 * 64
        for hits in ("top:1", "top:1111", "top:3001", "top:5990", "percentile:60"):
            for where in (None, {"batch": [0, 2]}):
                for k in (1, 65, 2_500, 6_090):
                    assert_same(atlas, SearchRequest.of(GENES[:2], hits=hits, k=k, where=where))


@settings(settings.get_profile("devices"))
@given(data=st.data())
def test_any_studies_any_question(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, open_on_device: OpenAtlas
) -> None:
    made = data.draw(strategies.studies())
    value_dtype, block_cells = data.draw(
        st.sampled_from([("float16", 65_536), ("float32", 7), ("float16", 33)])
    )
    with blocks_of(block_cells):
        path = build(tmp_path_factory.mktemp("any"), made, value_dtype=value_dtype)
    vocabulary = {gene for one in made for gene in one.genes}
    fields = sorted({field for one in made for field in one.obs})
    room = data.draw(st.sampled_from([0, 3_000, 1 << 28]))
    with open_on_device(path, device_memory=room, seed=data.draw(st.integers(0, 99))) as atlas:
        for _ in range(4):
            request = SearchRequest.of(
                data.draw(strategies.weights(vocabulary)),
                k=data.draw(st.sampled_from([0, 1, 5, 100])),
                where=data.draw(strategies.conditions(fields)),
                hits=data.draw(strategies.rules()),
                group_by=data.draw(st.sampled_from([(), ("study",), ("sample", "study")])),
                aggregate=data.draw(st.sampled_from(["mean", "sum"])),
            )
            assert_same(atlas, request)


def test_the_hit_rules_are_all_here() -> None:
    assert {HitRule.parse(rule).kind for rule in RULES} == {
        "percentile",
        "quantile",
        "value",
        "zscore",
        "top",
    }
