"""What hands tasks from a workflow to its worker processes: a program of its own, run as this folder (`pools`)."""
