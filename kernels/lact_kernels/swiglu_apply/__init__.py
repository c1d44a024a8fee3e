"""A batch of SwiGLU networks."""
