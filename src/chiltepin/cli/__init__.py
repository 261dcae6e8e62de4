"""The ``chiltepin`` command: one file per subcommand."""
