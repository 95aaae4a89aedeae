"""From attribution files to shards and metadata."""
