"""Tools for testing workflows and backends; no other part of the package imports them."""
