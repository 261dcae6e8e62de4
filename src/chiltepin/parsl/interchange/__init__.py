"""The interchange, a program that sends tasks to worker processes; `htex` runs it by the path of this folder."""
