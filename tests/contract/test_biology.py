"""What these cells are known to say."""

from insignia_client import read_gmt

from .serving import DATA

SETS = read_gmt(DATA / "signatures.gmt")


def best_group(client, signature, field: str, **question) -> str:
    return client.search(signature, group_by=field, **question).groups[field].astype(str)[0]


def test_interferon_response_is_high_in_stimulated_cells(client):
    assert best_group(client, SETS["HALLMARK_INTERFERON_ALPHA_RESPONSE"], "sample") == "kang_stimulated"


def test_beta_cell_markers_mark_beta_cells(client):
    markers = ["INS", "IAPP", "MAFA", "NKX6-1", "PDX1", "DLK1"]
    groups = client.search(markers, group_by="cell_type", where={"tissue": "pancreas"}).groups
    assert groups[groups.n_cells >= 20]["cell_type"].astype(str).iloc[0] == "beta"


def test_monocyte_markers_mark_monocytes(client):
    markers = ["S100A8", "S100A9", "LYZ", "CD14", "FCN1", "VCAN"]
    assert "Monocyte" in best_group(client, markers, "cell_type", where={"study": "pbmc3k"})


def test_beta_cell_markers_are_higher_in_beta_cells_than_in_the_same_samples_other_cells(client):
    tests = client.search(SETS["BETA_CELL_MARKERS"], group_by="cell_type", compare=True).tests
    beta = tests[tests["cell_type"].astype(str) == "beta"]
    assert set(beta["design"]) == {"paired"}
    assert (beta["effect_low"] > 0).all()
    assert (beta["fdr"] < 1e-4).all()


def test_the_interferon_response_of_two_samples_is_no_replicated_finding(client):
    interferon = SETS["HALLMARK_INTERFERON_ALPHA_RESPONSE"]
    tests = client.search(interferon, contrasts="condition=stimulated:control").tests
    assert tests["p"].isna().all()
    assert set(tests["reason"]) == {
        "2 samples: 1 with condition=stimulated, 1 with condition=control; at least 3 on each side are needed"
    }
