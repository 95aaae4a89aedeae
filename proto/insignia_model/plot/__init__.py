"""Figures of results; needs the extra ``plot``. PNG, SVG or PDF by the file's suffix."""

from insignia_model.plot.distribution import score_distribution
from insignia_model.plot.genes import gene_contributions
from insignia_model.plot.samples import replicated_groups, sample_hit_fractions
from insignia_model.plot.screen import screen_heatmap

__all__ = [
    "gene_contributions",
    "replicated_groups",
    "sample_hit_fractions",
    "score_distribution",
    "screen_heatmap",
]
