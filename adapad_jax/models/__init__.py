"""Pretrained models as flax nnx modules with the module names of torch."""
