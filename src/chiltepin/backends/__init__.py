"""Chiltepin's built-in backends, one package each; a backend imports only its own SDK."""
