"""Whisper: its weights, and its encoder with LaCT."""
