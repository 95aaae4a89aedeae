"""Attributions in the layout that sc-signature publishes: a folder per cell type, regrouped by study."""
