"""Layers: fast weights, window attention and the LaCT mixer."""
