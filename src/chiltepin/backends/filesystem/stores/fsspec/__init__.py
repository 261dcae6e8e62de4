"""Stores that fsspec opens, among them FTP, WebDAV and archives."""
