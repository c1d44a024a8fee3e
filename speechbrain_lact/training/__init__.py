"""Training of the models: Brains, data, settings, results."""
