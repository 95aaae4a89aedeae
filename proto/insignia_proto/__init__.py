"""The wire contract: ``insignia.v1`` and its generated modules."""
