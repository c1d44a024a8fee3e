"""Metrics and statistics of recognisers that adapt."""
