"""The interchange, which sends tasks to worker processes: a program, run by the path of this folder (`htex`)."""
