"""Queries, keys and values of fast weights from one projection."""
