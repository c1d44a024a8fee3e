"""Sessions of utterances and what they carry."""
