"""The contract in memory: the plain values that engine, server, client and CLI exchange.

Everything here is numpy, pandas (loaded when a frame is asked for) and the standard library.
"""

from insignia_model.condition import Condition, ge, gt, is_missing, le, lt, not_in, parse_condition
from insignia_model.contrast import Contrast
from insignia_model.explanation import Explanation
from insignia_model.genes import GeneReport
from insignia_model.hits import HitRule
from insignia_model.info import AtlasInfo, FieldInfo, StudyInfo
from insignia_model.reading import DeRule, Signatures, read_gmt, read_signatures
from insignia_model.request import CellId, SearchRequest
from insignia_model.result import AsyncScoreStream, ScoreChunk, Scores, ScoreStream, SearchResult
from insignia_model.screen import (
    AsyncScreenStream,
    ScreenChunk,
    ScreenPlan,
    ScreenRequest,
    ScreenStream,
    SkippedSignature,
)
from insignia_model.signature import Signature
from insignia_model.similar import SimilarRequest
from insignia_model.table import Column, Table

__all__ = [
    "AsyncScoreStream",
    "AsyncScreenStream",
    "AtlasInfo",
    "CellId",
    "Column",
    "Condition",
    "Contrast",
    "DeRule",
    "Explanation",
    "FieldInfo",
    "GeneReport",
    "HitRule",
    "ScoreChunk",
    "ScoreStream",
    "Scores",
    "ScreenChunk",
    "ScreenPlan",
    "ScreenRequest",
    "ScreenStream",
    "SearchRequest",
    "SearchResult",
    "Signature",
    "Signatures",
    "SimilarRequest",
    "SkippedSignature",
    "StudyInfo",
    "Table",
    "ge",
    "gt",
    "is_missing",
    "le",
    "lt",
    "not_in",
    "parse_condition",
    "read_gmt",
    "read_signatures",
]
