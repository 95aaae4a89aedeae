"""Attributions: from counts and a foundation model to how much each gene matters in each cell."""
