"""Which folders are imported, and the gene order that their arrays have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from insignia_index.build.errors import NoAttributions, UnreadableInput
from insignia_index.format.files import bytes_digest, file_digest, tree_digest
from insignia_model.errors import InvalidArgument
from insignia_model.signature import repeated

ARRAY = "attributions"
METADATA = "cell_metadata.csv.gz"
GENE_ORDERS = ("gene_order.tsv", "gene_order.txt")


@dataclass(frozen=True)
class Folder:
    """One cell type: ``attributions/`` and the table of its cells."""

    path: Path
    metadata: Path

    @property
    def name(self) -> str:
        """The folder's name, which is that of the cell type."""
        return self.path.name

    @property
    def array(self) -> Path:
        """The TileDB array."""
        return self.path / ARRAY

    @cached_property
    def digest(self) -> str:
        """Digest of all that is read of the folder, and of its name."""
        try:
            parts = (self.name, tree_digest(self.array), file_digest(self.metadata))
        except OSError as error:
            raise UnreadableInput(self.path, f"it cannot be read ({error.strerror})") from error
        return bytes_digest("\0".join(parts).encode())


def find_folders(paths: Sequence[Path], metadata_name: str = METADATA) -> list[Folder]:
    """Cell types at or directly below ``paths``: in the order given, those of one path by name."""
    found: list[Folder] = []
    for path in paths:
        if not path.is_dir():
            raise NoAttributions(path, "there is no such folder")
        path = path.resolve()  # "." has no name
        below = [path] if _is_cell_type(path, metadata_name) else sorted(path.iterdir())
        folders = [folder for folder in below if folder.is_dir() and _is_cell_type(folder, metadata_name)]
        if not folders:
            raise NoAttributions(path, f"it holds no {ARRAY}/, and no folder that does")
        found += [_checked(folder, metadata_name) for folder in folders]
    if twice := repeated([str(folder.path) for folder in found]):
        raise InvalidArgument("folders", f"{twice[0]} is given twice")
    if twice := repeated([folder.name for folder in found]):
        raise InvalidArgument("folders", f"two of them are named {twice[0]!r}; rename one")
    return found


def _is_cell_type(path: Path, metadata_name: str) -> bool:
    return (path / ARRAY).is_dir() or (path / metadata_name).is_file()


def _checked(path: Path, metadata_name: str) -> Folder:
    if not (path / ARRAY).is_dir():
        raise NoAttributions(path, f"it holds {metadata_name} and no {ARRAY}/")
    if not (path / metadata_name).is_file():
        raise NoAttributions(path, f"it holds {ARRAY}/ and no {metadata_name} (--metadata-name NAME)")
    return Folder(path, path / metadata_name)


def find_gene_order(given: Path | None, folders: Sequence[Folder]) -> Path:
    """The list of genes that was given, else one in or beside the folders."""
    if given is not None:
        return given
    places = dict.fromkeys(place for folder in folders for place in (folder.path, folder.path.parent))
    found = [place / name for place in places for name in GENE_ORDERS if (place / name).is_file()]
    if not found:
        raise UnreadableInput(
            folders[0].path,
            f"there is no {GENE_ORDERS[0]} in or beside it; --gene-order FILE names the genes of the arrays",
        )
    if len({file_digest(path) for path in found}) > 1:
        raise InvalidArgument(
            "gene_order", f"{found[0]} and others beside the folders differ; --gene-order FILE says which"
        )
    return found[0]


def common_root(folders: Sequence[Folder]) -> Path:
    """The folder itself, or the one that holds them all: what the import as a whole is called."""
    if len(folders) == 1:
        return folders[0].path
    shared = folders[0].path.parents
    return next(root for root in shared if all(root in folder.path.parents for folder in folders))
