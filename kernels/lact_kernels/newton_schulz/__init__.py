"""Nearly the polar factor of many small matrices."""
