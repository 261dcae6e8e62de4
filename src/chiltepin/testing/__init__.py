"""What Chiltepin ships for the tests of workflows and backends; nothing else of the package imports it."""
