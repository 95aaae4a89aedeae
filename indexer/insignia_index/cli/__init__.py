"""Sub-commands of `insignia` that need the indexer."""
