"""What the atlas holds, in LMDB."""
