"""Signatures in: GMT, tables, JSON and differential expression, from files or standard input."""

from insignia_model.reading.expression import DeRule
from insignia_model.reading.gmt import read_gmt
from insignia_model.reading.library import Signatures
from insignia_model.reading.pairs import join_up_down
from insignia_model.reading.read import FORMATS, read_signatures

__all__ = ["FORMATS", "DeRule", "Signatures", "join_up_down", "read_gmt", "read_signatures"]
