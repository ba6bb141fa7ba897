"""Pretrained models as flax nnx modules with the module names of torch."""

from adapad_jax.models.head import Head
from adapad_jax.models.loading import Pretrained, fill, load, max_length, outline
from adapad_jax.models.tokenizer import load_tokenizer

__all__ = [
  'Head',
  'Pretrained',
  'fill',
  'load',
  'load_tokenizer',
  'max_length',
  'outline',
]
