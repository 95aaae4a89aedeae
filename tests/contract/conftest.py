"""A real server over a real atlas, and the same atlas embedded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from insignia_client import Client
from insignia_index import Atlas, InputFile, build_atlas

from .serving import DATA, served


@pytest.fixture(scope="session")
def atlas_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real cells that the project carries, as an atlas."""
    path = tmp_path_factory.mktemp("contract") / "real.atlas"
    build_atlas(path, [InputFile(file) for file in sorted(DATA.glob("*.h5ad"))])
    return path


@pytest.fixture(scope="session")
def address(atlas_path: Path) -> Iterator[str]:
    with served(atlas_path) as address:
        yield address


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture(scope="session")
def atlas(atlas_path: Path) -> Iterator[Atlas]:
    with Atlas.open(atlas_path) as atlas:
        yield atlas
