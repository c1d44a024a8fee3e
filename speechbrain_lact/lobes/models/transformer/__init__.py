"""Encoders with LaCT layers."""
