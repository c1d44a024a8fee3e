"""The gradient of an inner loss by the weights of SwiGLU networks."""
