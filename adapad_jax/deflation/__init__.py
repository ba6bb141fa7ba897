"""The method of AdaPaD (arXiv:2605.10741). Imports jax and optax alone."""
