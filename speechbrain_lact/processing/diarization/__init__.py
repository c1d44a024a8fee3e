"""The steps of finding who speaks when."""
