"""Scale files and their atlases, made once and cached, and the gene lists that are searched in them."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from anndata.io import read_elem

from insignia_index import Atlas
from insignia_model import SearchRequest, Signature, read_gmt
from scale_data import CACHE_DIR, scale_file
from serving import INSIGNIA

ROOT = Path(__file__).resolve().parents[1]
MS1_GMT = ROOT / "tests" / "data" / "signatures.gmt"
# parts of the indexer that decide what is written
WRITERS = ("build/*.py", "catalog/*.py", "format/*.py", "kernels/memory.py", "kernels/transpose.py")
DENSITY_CELLS = 20_000
WELL_EXPRESSED = 0.08  # least share of cells; 86 such genes have about 18 postings a cell
GROUP_BY = ("study", "sample")


@dataclass(frozen=True)
class Scale:
    """Cells in equal studies of ten samples."""

    n_cells: int
    n_studies: int

    def __str__(self) -> str:
        studies = "1 study" if self.n_studies == 1 else f"{self.n_studies:,} studies"
        return f"{self.n_cells:,} cells, {studies}"


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often."""

    search: Scale = Scale(200_000, 40)
    small_studies: Scale = Scale(200_000, 2_000)
    one_study: Scale = Scale(200_000, 1)
    peer: Scale = Scale(50_000, 10)
    imported: Scale = Scale(100_000, 20)
    growth: tuple[Scale, ...] = (
        Scale(50_000, 10),
        Scale(100_000, 20),
        Scale(200_000, 40),
        Scale(400_000, 80),
    )
    large: Scale | None = None
    rounds: int = 40
    in_a_row: int = 5
    processes: int = 5  # cold starts
    peer_rounds: int = 2
    clients: int = 32
    load_s: float = 30.0
    n_signatures: int = 300
    n_profiles: int = 60
    n_genes: tuple[int, ...] = (5, 20, 86, 200)
    judged: bool = True  # whether the sizes are those of the targets


FULL = Sizes()
QUICK = Sizes(
    search=Scale(1_200, 4),
    small_studies=Scale(1_200, 12),
    one_study=Scale(1_200, 1),
    peer=Scale(1_200, 4),
    imported=Scale(1_200, 4),
    growth=(Scale(1_200, 4), Scale(1_200, 12)),
    rounds=2,
    in_a_row=2,
    processes=1,
    peer_rounds=1,
    clients=4,
    load_s=0.5,
    n_signatures=8,
    n_profiles=4,
    judged=False,
)


class Bench:
    """Sizes, and the files and lists that belong to them."""

    def __init__(self, sizes: Sizes, cache_dir: Path = CACHE_DIR) -> None:
        self.sizes = sizes
        self.cache_dir = cache_dir

    def h5ad(self, scale: Scale) -> Path:
        """Return the made attributions."""
        return scale_file(scale.n_cells, scale.n_studies, cache_dir=self.cache_dir)

    def atlas(self, scale: Scale) -> Path:
        """Return an atlas of them, built anew when the writer's code has changed."""
        source = self.h5ad(scale)
        stem = f"atlas-{source.stem}-"
        path = self.cache_dir / (stem + self._writer_digest)
        if path.exists():
            return path
        for stale in self.cache_dir.glob(f"{stem}*"):
            shutil.rmtree(stale)
        partial = self.cache_dir / f"{stem}partial"
        subprocess.run([INSIGNIA, "build", partial, source], check=True, stdout=subprocess.DEVNULL)
        return partial.rename(path)

    @cached_property
    def _writer_digest(self) -> str:
        package = ROOT / "indexer" / "insignia_index"
        files = sorted(file for part in WRITERS for file in package.glob(part))
        return hashlib.blake2b(b"".join(f.read_bytes() for f in files), digest_size=4).hexdigest()

    @cached_property
    def gene_lists(self) -> dict[str, list[str]]:
        """MS1's known genes, and nested lists of well-expressed genes, by name."""
        genes, density = gene_density(self.h5ad(self.sizes.search))
        known = set(genes)
        # the hash orders the genes: any order will do, as long as it is the same everywhere
        pool = sorted(
            (gene for gene, share in zip(genes, density, strict=True) if share > WELL_EXPRESSED),
            key=lambda gene: hashlib.blake2b(gene.encode()).digest(),
        )
        lists = {f"{n} genes": pool[:n] for n in self.sizes.n_genes}
        return {"MS1": [g for g in read_gmt(MS1_GMT)["MS1"].genes if g in known], **lists}

    def write_gene_lists(self, path: Path) -> Path:
        """Write the lists as JSON, which the compared packages read."""
        path.write_text(json.dumps(self.gene_lists))
        return path

    def request(self, name: str) -> SearchRequest:
        """Return the complete search: top-100, percentile 95, hits per sample and study."""
        signature = Signature.of(self.gene_lists[name], name)
        return SearchRequest(signature, k=100, group_by=GROUP_BY)


def gene_density(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the genes of an .h5ad, and in which share of its first cells each is stored."""
    with h5py.File(path) as file:
        genes = list(read_elem(file["var"]).index)
        n_cells = min(DENSITY_CELLS, len(file["X/indptr"]) - 1)
        ids = file["X/indices"][: file["X/indptr"][n_cells]]
    return genes, np.bincount(ids, minlength=len(genes)) / n_cells


def size_bytes(folder: Path) -> int:
    """Return the sum of the sizes of all files under folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def n_postings(atlas: Path) -> int:
    """Return how many postings an atlas holds."""
    with Atlas.open(atlas, threads=1) as opened:
        return opened.info().n_postings
