"""Hosts that are reached by SFTP."""
