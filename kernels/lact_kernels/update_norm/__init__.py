"""A step added to fast weights, their row norms, and what is not finite."""
