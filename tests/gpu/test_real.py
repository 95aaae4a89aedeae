"""Real cells, real signatures, over the embedded API and over a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from insignia_client import Client
from insignia_index import Atlas, InputFile, SearchRequest, build_atlas, read_gmt

from ..server.conftest import Running
from .conftest import OpenAtlas
from .equal import assert_same, facts

DATA = Path(__file__).parents[1] / "data"
SETS = dict(read_gmt(DATA / "signatures.gmt"))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, open_on_device: OpenAtlas) -> Iterator[Atlas]:
    path = tmp_path_factory.mktemp("real") / "atlas"
    build_atlas(path, [InputFile(DATA / f"{name}.h5ad") for name in ("kang2018", "pbmc3k", "baron2016")])
    with open_on_device(path) as opened:
        yield opened


@pytest.mark.parametrize("name", SETS)
def test_signatures_score_and_select_alike(atlas: Atlas, name: str) -> None:
    for where in (None, {"cell_type": "CD14+ Monocytes"}, {"study": "baron2016"}):
        assert_same(atlas, SearchRequest.of(SETS[name], where=where, group_by=("cell_type",)))


def test_every_gene_alike(atlas: Atlas) -> None:
    genes = atlas._session.snapshot.genes
    for part in (genes[:1500], genes[-300:]):
        assert_same(atlas, SearchRequest.of(dict.fromkeys(part, 1.0), k=10))


def test_cells_like_a_cell_alike(atlas: Atlas) -> None:
    first = str(atlas.search(SETS["MS1"], k=1).cells["cell_id"][0])
    study = str(atlas.search(SETS["MS1"], k=1).cells["study"][0])
    with Atlas.open(atlas.path, threads=1) as processor:
        for given in (
            {},
            {"exclude_study": True},
            {"where": {"tissue": "blood"}, "hits": "top:50", "k": 500},
        ):
            wanted = processor.similar(f"{study}:{first}", engine="sparse", **given)
            assert facts(atlas.similar(f"{study}:{first}", engine="sparse", **given)) == facts(wanted)


def test_whole_answers_with_tests_and_null_alike_embedded_and_served(atlas: Atlas) -> None:
    options = [
        {"group_by": ("study", "cell_type"), "compare": True},
        {"group_by": ("cell_type",), "null": True, "quantiles": True},
        {
            "where": {"study": ["kang_control", "kang_stimulated"]},
            "contrasts": ["condition=stimulated:control"],
        },
    ]
    with Atlas.open(atlas.path, threads=1) as processor:
        wanted = [facts(processor.search(SETS["MS1"], **given)) for given in options]
    assert [facts(atlas.search(SETS["MS1"], **given)) for given in options] == wanted
    running = Running(atlas)
    try:
        with Client(running.address) as client:
            served = [client.search(SETS["MS1"], **given) for given in options]
            info = client.info()
    finally:
        running.close()
    for found, facts_wanted in zip(served, wanted, strict=True):
        assert facts(found)["group_table"] == facts_wanted["group_table"]
        assert facts(found)["cell_table"] == facts_wanted["cell_table"]
    assert (info.device, info.n_cells_on_device) == (atlas.info().device, 3_703)
