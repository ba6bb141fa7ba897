"""Rotary position embeddings (Su et al. 2021, arXiv:2104.09864) and their scaling."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.ranges import Count, Positive, Text
from adapad_jax.settings import build, convert

_KINDS = ('default', 'linear', 'llama3')


@dataclasses.dataclass(frozen=True)
class Rotary:
  """Frequencies of the rotation, under the names of config.json.

  Attributes:
    rope_theta: base; pair h of H / 2 turns by theta^(-2 h / H) per position.
    rope_type: 'default'; 'linear' divides every frequency by `factor`; 'llama3'
      only those slower than the two thresholds, with a ramp between them.
    factor: how much longer the context is than in pretraining.
    low_freq_factor: turns within the old context below which all is scaled.
    high_freq_factor: turns within the old context above which nothing is.
    original_max_position_embeddings: the old context.
  """

  rope_theta: Positive = 10000.0
  rope_type: Text = 'default'
  factor: Positive = 1.0
  low_freq_factor: Positive = 1.0
  high_freq_factor: Positive = 4.0
  original_max_position_embeddings: Count = 8192

  def frequencies(self, size: int) -> np.ndarray:
    """Radians per position (size / 2,) of a head of `size` features."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    plain = np.float32(1) / np.float32(self.rope_theta) ** exponents
    if self.rope_type == 'default':
      return plain
    if self.rope_type == 'linear':
      return plain / np.float32(self.factor)
    turns = self.original_max_position_embeddings * plain / (2 * math.pi)
    low, high = self.low_freq_factor, self.high_freq_factor
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return ((1 - kept) * plain / self.factor + kept * plain).astype(np.float32)


def read_rotary(raw: Mapping[str, Any]) -> Rotary:
  """Reads config.json, in the layout of transformers 5 or an older one.

  Raises:
    ValueError: for a kind of scaling that is not implemented, or a scaled kind
      whose fields are missing.
  """
  where = next((n for n in ('rope_parameters', 'rope_scaling') if raw.get(n)), 'rope')
  given = dict(convert(dict, raw.get(where) or {}, f'{where} in config.json'))
  given.setdefault('rope_type', given.pop('type', 'default'))
  if raw.get('rope_theta') is not None:
    given.setdefault('rope_theta', raw['rope_theta'])
  kind = given['rope_type']
  if kind not in _KINDS:
    raise ValueError(f'rope_type {kind!r} in config.json; choose from {_KINDS}')
  if given.get('partial_rotary_factor', 1.0) != 1.0:
    raise ValueError(
      f'partial_rotary_factor {given["partial_rotary_factor"]} in config.json;'
      ' only 1.0 is implemented'
    )
  names = [field.name for field in dataclasses.fields(Rotary)]
  needed = {'default': (), 'linear': names[2:3], 'llama3': names[2:]}[kind]
  missing = [name for name in needed if name not in given]
  if missing:
    raise ValueError(f'rope_type {kind!r} in config.json lacks {missing}')
  found = {name: given[name] for name in names if name in given}
  rope = build(Rotary, found, f'config.json: {where}')
  if kind == 'llama3' and not rope.low_freq_factor < rope.high_freq_factor:
    raise ValueError(
      f'{where} in config.json: low_freq_factor {rope.low_freq_factor} must be below'
      f' high_freq_factor {rope.high_freq_factor}'
    )
  return rope


def rotation(rotary: Rotary, positions_BL: jax.Array, size: int) -> jax.Array:
  """Cosines and sines (2, B, L, 1, H / 2) of the angles at some positions."""
  frequencies = rotary.frequencies(size)[None, None, None]
  angles = positions_BL[:, :, None, None].astype(jnp.float32) * frequencies
  return jnp.stack([jnp.cos(angles), jnp.sin(angles)])


def rotate(x_BLNH: jax.Array, rotation: jax.Array) -> jax.Array:
  """Turns the pairs (h, h + H / 2) of every head, in float32.

  The halves are a head's real and imaginary parts, which is the order that the
  Hugging Face checkpoints store.
  """
  cos, sin = rotation
  real, imaginary = jnp.split(x_BLNH.astype(jnp.float32), 2, axis=-1)
  turned = [real * cos - imaginary * sin, imaginary * cos + real * sin]
  return jnp.concatenate(turned, axis=-1).astype(x_BLNH.dtype)
