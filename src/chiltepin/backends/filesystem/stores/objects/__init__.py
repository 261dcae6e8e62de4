"""What all object stores have in common: their keys, their folders and their uploads."""
