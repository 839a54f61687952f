"""Readers: files on disk as arrays."""
