"""GMT files: one gene set a line, tab-separated: name, description, genes."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from insignia_model.errors import InvalidSignature
from insignia_model.signature import Signature


def read_gmt(path: str | Path) -> dict[str, Signature]:
    """Signatures of a GMT file (plain or .gz) by name, in file order."""
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise InvalidSignature(str(path), f"cannot be read as GMT: {error}") from error
    signatures: dict[str, Signature] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = line.split("\t")
        genes = [gene for gene in (g.strip() for g in rest[1:]) if gene]
        if not genes:
            raise InvalidSignature(
                str(path), f"line {number} has no genes; a GMT line is NAME<tab>DESCRIPTION<tab>GENE<tab>..."
            )
        if name in signatures:
            raise InvalidSignature(str(path), f"line {number} repeats the set {name!r}")
        signatures[name] = Signature.of(genes, name)
    if not signatures:
        raise InvalidSignature(str(path), "the file has no gene sets")
    return signatures
