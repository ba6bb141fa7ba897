"""Configurations for `python -m adapad_jax.main --config=FILE:OPTIONS`."""
