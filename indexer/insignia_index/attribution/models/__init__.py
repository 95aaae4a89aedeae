"""Kinds of models: one module each, see `insignia_index.attribution.model.ModelKind`."""
