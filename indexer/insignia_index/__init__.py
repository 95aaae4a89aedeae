"""The atlas: its format, and everything that reads or writes it.

>>> from insignia_index import Atlas
>>> with Atlas.open("my.atlas") as atlas:
...     result = atlas.search(["IFIT1", "ISG15", "MX1"], group_by=("study", "condition"))
...     result.groups
"""

from insignia_index.atlas import Atlas
from insignia_index.build.build import build_atlas, remove_studies
from insignia_index.build.inputs import InputFile
from insignia_index.cancel import CancelToken
from insignia_model import HitRule, SearchRequest, Signature, read_gmt

__all__ = ["Atlas", "CancelToken", "HitRule", "InputFile", "SearchRequest", "Signature", "build_atlas", "read_gmt", "remove_studies"]
