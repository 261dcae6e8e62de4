"""Chiltepin's own backends, each in its own package, each importing its own SDK and no other."""
