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

# Kinds of scaling, and the fields that each cannot do without.
_NEEDED = {
  'default': (),
  'linear': ('factor',),
  'llama3': (
    'factor',
    'low_freq_factor',
    'high_freq_factor',
    'original_max_position_embeddings',
  ),
  'yarn': ('factor',),
}


@dataclasses.dataclass(frozen=True)
class Rotary:
  """Frequencies of the rotation, under the names of config.json.

  Attributes:
    rope_theta: base; pair h of H / 2 turns by theta^(-2 h / H) per position.
    rope_type: 'default'; 'linear' divides every frequency by `factor`; 'llama3'
      only those slower than the two thresholds, with a ramp between them; 'yarn'
      likewise, with a ramp over the pairs (arXiv:2309.00071).
    factor: how much longer the context is than in pretraining.
    low_freq_factor: turns within the old context below which all is scaled.
    high_freq_factor: turns within the old context above which nothing is.
    original_max_position_embeddings: the old context.
    beta_fast: of YaRN, turns within the old context above which nothing is scaled.
    beta_slow: of YaRN, turns within the old context below which all is.
    attention_factor: of YaRN, what queries and keys are multiplied by; None takes
      0.1 ln(factor) + 1.
    truncate: of YaRN, whether the ramp begins and ends at whole pairs.
  """

  rope_theta: Positive = 10000.0
  rope_type: Text = 'default'
  factor: Positive = 1.0
  low_freq_factor: Positive = 1.0
  high_freq_factor: Positive = 4.0
  original_max_position_embeddings: Count = 8192
  beta_fast: Positive = 32.0
  beta_slow: Positive = 1.0
  attention_factor: Positive | None = None
  truncate: bool = True

  def frequencies(self, size: int) -> np.ndarray:
    """Radians per position (size / 2,) of a head of `size` features."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    plain = np.float32(1) / np.float32(self.rope_theta) ** exponents
    if self.rope_type == 'default':
      return plain
    if self.rope_type == 'linear':
      return plain / np.float32(self.factor)
    kept = self._yarn_kept(size) if self.rope_type == 'yarn' else self._kept(plain)
    return ((1 - kept) * plain / self.factor + kept * plain).astype(np.float32)

  @property
  def amplitude(self) -> float:
    """What rotated queries and keys are multiplied by."""
    if self.rope_type != 'yarn':
      return 1.0
    if self.attention_factor is not None:
      return self.attention_factor
    return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

  def _kept(self, plain: np.ndarray) -> np.ndarray:
    """The share of each frequency that llama3 leaves as it was."""
    turns = self.original_max_position_embeddings * plain / (2 * math.pi)
    low, high = self.low_freq_factor, self.high_freq_factor
    return np.clip((turns - low) / (high - low), 0.0, 1.0)

  def _yarn_kept(self, size: int) -> np.ndarray:
    """The share of each frequency that YaRN leaves as it was."""

    def pair_of(turns: float) -> float:
      """The pair, as a fraction, that turns so often within the old context."""
      old = self.original_max_position_embeddings
      ratio = math.log(old / (turns * 2 * math.pi)) / math.log(self.rope_theta)
      return size * ratio / 2

    low, high = pair_of(self.beta_fast), pair_of(self.beta_slow)
    if self.truncate:
      low, high = math.floor(low), math.ceil(high)
    # As released: the upper end is held below `size`, not below the number of pairs.
    low, high = max(low, 0), min(high, size - 1)
    width = high - low if high != low else 0.001
    pairs = np.arange(size // 2, dtype=np.float32)
    return 1 - np.clip((pairs - np.float32(low)) / np.float32(width), 0.0, 1.0)


# Where config.json says it: in transformers 5, and before.
_PLACES = ('rope_parameters', 'rope_scaling')


def read_rotary(
  raw: Mapping[str, Any],
  *,
  theta: float = 10000.0,
  theta_name: str = 'rope_theta',
  layers: str = '',
) -> Rotary:
  """Reads config.json, in the layout of transformers 5 or an older one.

  Args:
    raw: config.json.
    theta: the base where config.json names none.
    theta_name: the older layout's name of the base.
    layers: 'full_attention' or 'sliding_attention' where kinds of layer have
      parameters of their own.

  Raises:
    ValueError: for a kind of scaling that is not implemented, or a scaled kind
      whose fields are missing.
  """
  if all(raw.get(name) for name in _PLACES):
    return _agreed(raw, theta=theta, theta_name=theta_name, layers=layers)
  where, given = _given(raw, layers)
  given = {name: value for name, value in given.items() if value is not None}
  given.setdefault('rope_type', given.pop('type', 'default'))
  if raw.get(theta_name) is not None:
    given.setdefault('rope_theta', raw[theta_name])
  given.setdefault('rope_theta', theta)
  kind = given['rope_type']
  if kind not in _NEEDED:
    raise ValueError(f'rope_type {kind!r} in config.json; choose from {tuple(_NEEDED)}')
  _refuse_variants({'partial_rotary_factor': raw.get('partial_rotary_factor')} | given)
  if kind == 'yarn' and raw.get('max_position_embeddings') is not None:
    old = 'original_max_position_embeddings'
    given.setdefault(old, raw['max_position_embeddings'])
  missing = [name for name in _NEEDED[kind] if name not in given]
  if missing:
    raise ValueError(f'rope_type {kind!r} in config.json lacks {missing}')
  names = [field.name for field in dataclasses.fields(Rotary)]
  found = {name: given[name] for name in names if name in given}
  rope = build(Rotary, found, f'config.json: {where}')
  _check_order(rope, where)
  return rope


def _agreed(raw: Mapping[str, Any], **how: Any) -> Rotary:
  """What both layouts say, where config.json has both."""
  found = [
    read_rotary({name: x for name, x in raw.items() if name != other}, **how)
    for other in _PLACES
  ]
  if found[0] != found[1]:
    raise ValueError(
      f'config.json has both {" and ".join(_PLACES)}, which say different things; leave'
      ' one of them'
    )
  return found[0]


def _given(raw: Mapping[str, Any], layers: str) -> tuple[str, dict[str, Any]]:
  """The parameters of some layers, and where in config.json they stand."""
  where = next((n for n in _PLACES if raw.get(n)), 'rope')
  given = dict(convert(dict, raw.get(where) or {}, f'{where} in config.json'))
  nested = {name: x for name, x in given.items() if isinstance(x, Mapping)}
  if not nested and (where != 'rope_parameters' or not layers):
    return where, given
  if layers not in nested:
    raise ValueError(
      f'{where} in config.json is given for {sorted(nested) or "all layers"}, expected'
      f' {layers or "one for all layers"}'
    )
  return f'{where}.{layers}', dict(nested[layers])


def _refuse_variants(given: Mapping[str, Any]) -> None:
  part = given.get('partial_rotary_factor')
  if part is not None and part != 1.0:
    raise ValueError(
      f'partial_rotary_factor {part} in config.json; only 1.0 is implemented'
    )
  for name in ('mscale', 'mscale_all_dim'):
    if given.get(name):
      raise ValueError(f'{name} {given[name]} in config.json is not implemented')


def _check_order(rope: Rotary, where: str) -> None:
  """Refuses thresholds the wrong way round."""
  for kind, low, high in (
    ('llama3', 'low_freq_factor', 'high_freq_factor'),
    ('yarn', 'beta_slow', 'beta_fast'),
  ):
    values = getattr(rope, low), getattr(rope, high)
    if rope.rope_type == kind and not values[0] < values[1]:
      raise ValueError(
        f'{where} in config.json: {low} {values[0]} must be below {high} {values[1]}'
      )


def rotation(rotary: Rotary | None, positions_BL: jax.Array, size: int) -> jax.Array:
  """Cosines and sines (2, B, L, 1, H / 2) of the angles at some positions.

  Without `rotary` the angles are zero: nothing turns.
  """
  shape = (*positions_BL.shape, 1, size // 2)
  if rotary is None:
    return jnp.stack([jnp.ones(shape), jnp.zeros(shape)])
  frequencies = rotary.frequencies(size)[None, None, None]
  angles = positions_BL[:, :, None, None].astype(jnp.float32) * frequencies
  turn = jnp.stack([jnp.cos(angles), jnp.sin(angles)])
  return turn if rotary.amplitude == 1.0 else turn * rotary.amplitude


def rotate(x_BLNH: jax.Array, rotation: jax.Array) -> jax.Array:
  """Turns the pairs (h, h + H / 2) of every head, in float32.

  The halves are a head's real and imaginary parts, which is the order that the
  Hugging Face checkpoints store.
  """
  cos, sin = rotation
  real, imaginary = jnp.split(x_BLNH.astype(jnp.float32), 2, axis=-1)
  turned = [real * cos - imaginary * sin, imaginary * cos + real * sin]
  return jnp.concatenate(turned, axis=-1).astype(x_BLNH.dtype)
