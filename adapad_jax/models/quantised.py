"""Frozen kernels in four, eight or sixteen bits, widened where they are used.

nf4 is that of Dettmers et al. (2023), arXiv:2305.14314: a weight is one of sixteen
levels, quantiles of a normal distribution, times the largest magnitude of its block of
64. int8 rounds to 127 steps of that magnitude instead, and bfloat16 rounds alone. The
scales are float32, and are not quantised again.

Blocks run along a row of torch's (O, I), and rows are packed on the host as they are
read from a file. qwix's QArray would want the whole kernel in floating point on a
device, and its nf4 takes sixteen distances to a weight.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import nnx

BLOCK = 64  # weights that share a scale
# arXiv:2305.14314, appendix E.
NF4_LEVELS = (
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
)
_MIDPOINTS = np.convolve(np.array(NF4_LEVELS, np.float32), [0.5, 0.5], 'valid')
_STEPS = 127  # of int8 on either side of zero
_CACHED = 2**16  # weights that are packed at once: passes over more leave the cache
# Name of a form -> what its codes are. A bfloat16 is its bits: XLA's CPU compiler would
# widen a whole stack of bfloat16 layers at once.
FORMS: dict[str, Any] = {
  'bfloat16': np.uint16,
  'int8': np.int8,
  'nf4': np.uint8,
}


@dataclasses.dataclass(frozen=True)
class Packing:
  """How the rows of a kernel are written in fewer bits.

  Attributes:
    form: a name in `FORMS`.
    features: I, the length of a row; what lacks to whole blocks is filled with zeros.
  """

  form: str
  features: int

  @property
  def scaled(self) -> bool:
    """Whether there are scales."""
    return self.form != 'bfloat16'

  @property
  def blocks(self) -> int:
    """Scales of a row."""
    return -(-self.features // BLOCK)

  @property
  def width(self) -> int:
    """Codes of a row; one of nf4 has two weights, the first in the upper half."""
    if not self.scaled:
      return self.features
    return self.blocks * (BLOCK // 2 if self.form == 'nf4' else BLOCK)

  def pack(self, weight_OI: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes (O, `width`) and scales (O, `blocks`) of rows in any floating dtype.

    What is not finite makes its whole block so.
    """
    if not self.scaled:
      return weight_OI.astype(ml_dtypes.bfloat16).view(np.uint16), None
    outputs = len(weight_OI)
    codes = np.empty((outputs, self.width), FORMS[self.form])
    scales = np.empty((outputs, self.blocks), np.float32)
    step = max(1, _CACHED // max(1, self.features))
    for start in range(0, outputs, step):
      rows = slice(start, start + step)
      codes[rows], scales[rows] = self._pack_rows(weight_OI[rows])
    return codes, scales

  def _pack_rows(self, weight_RI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    blocks = np.zeros((len(weight_RI), self.blocks * BLOCK), np.float32)
    blocks[:, : self.features] = weight_RI
    blocks = blocks.reshape(len(weight_RI), self.blocks, BLOCK)
    largest = np.max(np.abs(blocks), axis=-1, keepdims=True)
    with np.errstate(invalid='ignore', over='ignore'):
      blocks /= np.where(largest == 0, np.float32(1), largest)
      codes = _nearest_level(blocks) if self.form == 'nf4' else _nearest_step(blocks)
    scales = largest if self.form == 'nf4' else largest / np.float32(_STEPS)
    return codes.reshape(len(weight_RI), -1), scales[..., 0]

  def unpack(self, codes: jax.Array, scales: jax.Array | None) -> jax.Array:
    """The weights (..., O, I) in float32, of codes and scales (..., O, -)."""
    if scales is None:
      return jax.lax.bitcast_convert_type(codes.astype(jnp.uint32) << 16, jnp.float32)
    values = codes
    if self.form == 'nf4':
      halves = jnp.stack([codes >> 4, codes & 15], axis=-1)
      values = jnp.array(NF4_LEVELS, jnp.float32)[halves]
    blocks = values.reshape(*scales.shape, BLOCK).astype(jnp.float32)
    rows = (blocks * scales[..., None]).reshape(*scales.shape[:-1], -1)
    return rows[..., : self.features]


def _nearest_level(x: np.ndarray) -> np.ndarray:
  """Pairs of nf4 codes, a byte each, of values from -1 to 1."""
  codes, above = np.zeros(x.shape, np.uint8), np.empty(x.shape, np.bool_)
  for midpoint in _MIDPOINTS:
    codes += np.greater(x, midpoint, out=above).view(np.uint8)
  return codes[..., ::2] << 4 | codes[..., 1::2]


def _nearest_step(x: np.ndarray) -> np.ndarray:
  """int8 codes of values from -1 to 1."""
  return np.rint(x * np.float32(_STEPS)).astype(np.int8)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(
  packing: Packing, x: jax.Array, codes: jax.Array, scales: jax.Array | None
) -> jax.Array:
  """x W^T for x (..., I) and a packed W (O, I), summed in float32, in x's dtype.

  Both passes widen W for themselves, and neither keeps it: the backward pass has codes
  and scales alone, and no gradient goes to them. The barriers hold the compiler to it,
  which would widen W once for all passes that it sees, or in front of a loop.
  """
  return _widened_product(packing, x, codes, scales, axis=1)


def _forward(
  packing: Packing, x: jax.Array, codes: jax.Array, scales: jax.Array | None
) -> tuple[jax.Array, Any]:
  return product(packing, x, codes, scales), (codes, scales)


def _backward(packing: Packing, saved: Any, dy: jax.Array) -> tuple[Any, ...]:
  return _widened_product(packing, dy, *saved, axis=0), None, None


product.defvjp(_forward, _backward)


def _widened_product(
  packing: Packing, x: jax.Array, codes: jax.Array, scales: Any, axis: int
) -> jax.Array:
  """The product of x's last axis and this axis of W."""
  x, codes, scales = jax.lax.optimization_barrier((x, codes, scales))
  weight_OI = packing.unpack(codes, scales).astype(x.dtype)
  axes = ((x.ndim - 1,), (axis,)), ((), ())
  wide = jax.lax.dot_general(x, weight_OI, axes, preferred_element_type=jnp.float32)
  return wide.astype(x.dtype)


class PackedLinear(nnx.Module):
  """A linear layer whose kernel is packed, and stays as it is."""

  def __init__(self, linear: nnx.Linear, form: str) -> None:
    *layers, inputs, outputs = linear.kernel.shape
    packing = Packing(form, inputs)
    make = lambda width, dtype: nnx.Param(
      jnp.zeros((*layers, outputs, width), dtype), packing=packing
    )
    self.codes = make(packing.width, FORMS[form])
    self.scales = make(packing.blocks, jnp.float32) if packing.scaled else None
    self.bias = linear.bias
    self.packing = packing
    self.dtype = linear.dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    """x W + c in the layer's dtype."""
    x = x.astype(self.dtype)
    scales = None if self.scales is None else self.scales[...]
    y = product(self.packing, x, self.codes[...], scales)
    if self.bias is None:
      return y
    return y + self.bias[...].reshape((1,) * (y.ndim - 1) + (-1,)).astype(y.dtype)


Linear = nnx.Linear | PackedLinear


def kernel_shape(linear: Linear) -> tuple[int, ...]:
  """Shape (..., I, O) of a kernel, whatever its form."""
  if isinstance(linear, PackedLinear):
    *layers, outputs, _ = linear.codes.shape
    return (*layers, linear.packing.features, outputs)
  return linear.kernel.shape


def widened_kernel(linear: Linear) -> jax.Array:
  """The kernel (..., I, O), whatever its form; of a packed one in float32."""
  if not isinstance(linear, PackedLinear):
    return linear.kernel[...]
  scales = None if linear.scales is None else linear.scales[...]
  return jnp.swapaxes(linear.packing.unpack(linear.codes[...], scales), -1, -2)


def pack_linears(model: nnx.Module, form: str, whole: tuple[str, ...]) -> nnx.Module:
  """Puts packed layers, still to be filled, in the place of a model's linear ones.

  Args:
    model: as a family builds it; changed in place.
    form: a name in `FORMS`.
    whole: paths of modules that stay as they are, with all that is in them.
  """
  for path, module in list(nnx.iter_modules(model)):
    for leaf, child in list(vars(module).items()):
      name = '.'.join(str(part) for part in (*path, leaf))
      if isinstance(child, nnx.Linear) and not f'{name}.'.startswith(
        tuple(f'{one}.' for one in whole)
      ):
        setattr(module, leaf, PackedLinear(child, form))
  return model
