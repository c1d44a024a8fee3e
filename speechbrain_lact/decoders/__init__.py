"""Searchers that carry the decoder's memory."""
