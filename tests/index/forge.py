"""Forged atlases: wrong content behind right checksums, as from somebody who means harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from insignia_index.catalog.records import catalog_digest
from insignia_index.format.files import bytes_digest, file_digest
from insignia_index.format.layout import BLOCK, HEAD, aligned, directory_bytes, n_words
from insignia_index.kernels.check import checksum, entry_seed
from insignia_index.kernels.directory import container_size

Records = dict[str, Any]


def records(path: Path, edit: Callable[[Records, Records], None]) -> None:
    """Edit the atlas record and the record of its first study."""
    environment = lmdb.open(str(path / "meta.lmdb"), subdir=False, map_size=1 << 30)
    with environment.begin(write=True) as transaction:
        key, raw = next((bytes(k), v) for k, v in transaction.cursor() if bytes(k).startswith(b"study/"))
        atlas, study = json.loads(transaction.get(b"atlas")[16:]), json.loads(raw)
        edit(atlas, study)
        transaction.put(key, json.dumps(study).encode())
        studies = [
            (bytes(k)[6:].decode(), v) for k, v in transaction.cursor() if bytes(k).startswith(b"study/")
        ]
        body = json.dumps(
            atlas | {"digest": catalog_digest(transaction.get(b"vocabulary"), studies)}
        ).encode()
        transaction.put(b"atlas", bytes_digest(body).encode() + body)
    environment.close()


def values(path: Path, key: str, raw: bytes) -> None:
    """Put a value into the catalog as it is."""
    environment = lmdb.open(str(path / "meta.lmdb"), subdir=False, map_size=1 << 30)
    with environment.begin(write=True) as transaction:
        assert transaction.get(key.encode()) is not None
        transaction.put(key.encode(), raw)
    environment.close()


def column(path: Path, field: str, raw: bytes, **changes: Any) -> None:
    """Replace the values of a field of the first study, and parts of its record."""
    shard: list[str] = []
    records(path, lambda atlas, study: shard.append(study["shard"]))
    values(path, f"column/{shard[0]}/{field}", raw)
    dictionary = names(path, f"dictionary/{shard[0]}/{field}")

    def record(atlas: Records, study: Records) -> None:
        study["fields"][field] |= {"digest": bytes_digest(raw, dictionary)} | changes

    records(path, record)


def names(path: Path, key: str) -> bytes:
    """A value of the catalog, empty if it is not there."""
    environment = lmdb.open(str(path / "meta.lmdb"), subdir=False, map_size=1 << 30)
    with environment.begin() as transaction:
        raw = transaction.get(key.encode()) or b""
    environment.close()
    return bytes(raw)


class Postings:
    """The first shard's postings.bin, of one block, in parts that can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = next(path.glob("shards/*@1/postings.bin"))
        self.raw = np.fromfile(self.file, np.uint8)
        found: list[Records] = []
        records(path, lambda atlas, study: found.append(study["files"]))
        self.files = found[0]
        at = self.files["head_offset"]
        self.head = self.raw[at : at + HEAD.itemsize].view(HEAD)
        at += HEAD.itemsize
        self.block = self.raw[at : at + BLOCK.itemsize].view(BLOCK)
        at += BLOCK.itemsize
        words = n_words(int(self.head["n_genes"][0]))
        self.directory = self.raw[at : at + directory_bytes(int(self.head["n_genes"][0]))]
        self.bits = self.directory[: 8 * words].view("<u8")
        self.ranks = self.directory[8 * words : 12 * words].view("<u4")
        offset, n = int(self.block["offset"][0]), int(self.block["n_entries"][0])
        self.entries = self.raw[offset : offset + 8 * n].view("<u8")
        self.checks = self.raw[offset + 8 * n : offset + 12 * n].view("<u4")
        start = aligned(offset + 12 * n)
        self.payload = self.raw[start : start + int(self.block["payload_bytes"][0])]

    def container(self, gene: int) -> np.ndarray:
        """Bytes of a gene's container."""
        entry = int(self.entries[gene])
        return self.payload[(entry >> 26) * 4 :]

    def write(self, *, checks: bool = True, **files: Any) -> None:
        """Write the file, and every checksum and digest that covers it."""
        if checks:
            for gene, entry in enumerate(self.entries.tolist()):
                size = container_size((entry >> 16) & 3, (entry & 0xFFFF) + 1, 100, 2)
                words = self.container(gene)[:size].view("<u4")
                self.checks[gene] = checksum(words, entry_seed(gene, np.uint64(entry)))
        self.raw.tofile(self.file)
        at, n = self.files["head_offset"], self.files["head_bytes"]
        changes = {"head_digest": bytes_digest(self.raw[at : at + n].data)} | files
        digest = file_digest(self.file)

        def edit(atlas: Records, study: Records) -> None:
            study["files"] |= changes
            study["files"]["digests"]["postings.bin"] = digest

        records(self.path, edit)
