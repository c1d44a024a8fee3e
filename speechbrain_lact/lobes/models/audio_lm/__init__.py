"""Language models of audio tokens."""
