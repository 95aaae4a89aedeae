"""Dense companions of a shard: rows of cells, their projection, FAISS over it, and its measured recall."""
