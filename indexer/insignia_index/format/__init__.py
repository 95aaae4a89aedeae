"""The bytes of a shard: docs/format.md is the contract."""
