"""An atlas that changes while it is served."""

import time
from pathlib import Path

from insignia_client import Client
from insignia_index import InputFile, build_atlas, remove_studies

from .serving import DATA, served

WAIT_S = 10.0


def until_studies(client: Client, expected: list[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while [study.study for study in client.studies()] != expected:
        assert time.monotonic() < deadline, f"the server did not take up {expected}"
        time.sleep(0.05)


def test_a_server_takes_up_studies_that_are_added_and_removed(tmp_path: Path):
    path = tmp_path / "live.atlas"
    build_atlas(path, [InputFile(DATA / "pbmc3k.h5ad")])
    with served(path, "--refresh", "0.1") as address, Client(address) as client:
        alone = client.search(["LYZ", "CD14"], k=5, hits="top:5")
        build_atlas(path, [InputFile(DATA / "baron2016.h5ad")], create=False)
        until_studies(client, ["baron2016", "pbmc3k"])
        both = client.search(["LYZ", "CD14"], k=5, hits="top:5")
        assert both.n_cells > alone.n_cells
        assert set(both.groups["study"]) == {"baron2016", "pbmc3k"}
        remove_studies(path, ["baron2016"])
        until_studies(client, ["pbmc3k"])
        again = client.search(["LYZ", "CD14"], k=5, hits="top:5")
        assert again.cell_table.to_frame().equals(alone.cell_table.to_frame())
        assert again.group_table.to_frame().equals(alone.group_table.to_frame())
