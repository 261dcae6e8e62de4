"""One package or module for each kind of storage other than local folders."""
