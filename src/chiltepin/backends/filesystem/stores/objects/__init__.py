"""The common part of all object stores: keys, folders and uploads."""
