"""Pretrained models as flax nnx modules with the module names of torch."""

from adapad_jax.models.families import family_of
from adapad_jax.models.family import Family
from adapad_jax.models.head import Head
from adapad_jax.models.kept_tokenizer import kept_tokenizer
from adapad_jax.models.loading import (
  DTYPES,
  WEIGHTS,
  Pretrained,
  fill,
  load,
  max_length,
  outline,
  require_head,
)
from adapad_jax.models.sources import Source, find
from adapad_jax.models.split import (
  Division,
  division,
  forgetful,
  gather_on_use,
)
from adapad_jax.models.tokenizer import load_tokenizer

__all__ = [
  'DTYPES',
  'WEIGHTS',
  'Division',
  'Family',
  'Head',
  'Pretrained',
  'Source',
  'division',
  'family_of',
  'fill',
  'find',
  'forgetful',
  'gather_on_use',
  'kept_tokenizer',
  'load',
  'load_tokenizer',
  'max_length',
  'outline',
  'require_head',
]
