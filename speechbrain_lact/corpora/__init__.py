"""Corpora: how each is made, downloaded, laid out and listed."""
