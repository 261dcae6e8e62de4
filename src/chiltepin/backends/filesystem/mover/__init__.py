"""Copy and delete files and trees, from any store to any store."""
