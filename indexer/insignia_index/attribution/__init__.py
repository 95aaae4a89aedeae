"""Attributions: from counts and a foundation model to how much each gene matters in each cell.

>>> from insignia_index.attribution import Recipe, attribute_file
>>> attribute_file("counts.h5ad", "model/", "attributions.h5ad", Recipe(method="ig"))

Needs the extra ``attribution``. `insignia_index.attribution.model` says how to add a kind of model.
"""

from insignia_index.attribution.attribute import attribute_file
from insignia_index.attribution.attributor import Attributor
from insignia_index.attribution.model import AttributionModel, load_model
from insignia_index.attribution.recipe import Recipe

__all__ = ["AttributionModel", "Attributor", "Recipe", "attribute_file", "load_model"]
