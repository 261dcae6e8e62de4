"""Chiltepin moves the data of scientific workflows.

The names below are loaded when they are first used, so that ``import chiltepin`` costs next to nothing.
"""
