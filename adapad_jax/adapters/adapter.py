"""A trained adapter on the host: what is saved, exported and merged.

Axis letters: R components of a module, I and O its input and output features.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from flax import nnx

from adapad_jax.adapters.locate import parent_of


@dataclasses.dataclass(frozen=True)
class LowRank:
  """The update x -> (x a^T) b of one module; every scale is part of b.

  Component k is row k of both. In an adapter trained by deflation, the first rows are
  a usable smaller update.

  Attributes:
    a_RI: input directions, float32.
    b_RO: output directions, float32.
  """

  a_RI: np.ndarray
  b_RO: np.ndarray

  @property
  def rank(self) -> int:
    """Number of components; may be zero."""
    return len(self.a_RI)

  def weight(self) -> np.ndarray:
    """Delta W, (I, O)."""
    return self.a_RI.T @ self.b_RO

  def cut(self, rank: int) -> 'LowRank':
    """The first `rank` components."""
    return LowRank(self.a_RI[:rank], self.b_RO[:rank])


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Updates by module name, and the head that was trained with them.

  Attributes:
    modules: by the name of the module in torch's model, 'bert.encoder.layer.0...'.
    head: 'kernel' (in, out) and 'bias' of each linear layer of the head, by name.
  """

  modules: dict[str, LowRank]
  head: dict[str, dict[str, np.ndarray]]

  @property
  def ranks(self) -> dict[str, int]:
    """Rank of every module."""
    return {name: update.rank for name, update in self.modules.items()}

  def parameters(self) -> int:
    """Number of adapter parameters, the head not counted."""
    return sum(u.a_RI.size + u.b_RO.size for u in self.modules.values())


def merge(model: nnx.Module, adapter: Adapter) -> nnx.Module:
  """Adds the updates to the kernels of `model`, in place, in float32; sets the head.

  Raises:
    ValueError: if an update has another shape than its kernel.
  """
  for name, update in adapter.modules.items():
    parent, leaf, layer = parent_of(model, name)
    kernel = getattr(parent, leaf).kernel
    value, delta_IO = kernel[...], jnp.asarray(update.weight())
    if value.shape[-2:] != delta_IO.shape:
      raise ValueError(
        f'the update of {name} is {delta_IO.shape}, its kernel {value.shape[-2:]}'
      )
    at = slice(None) if layer is None else layer
    wide = value.astype(jnp.float32).at[at].add(delta_IO)
    kernel[...] = wide.astype(value.dtype)
  for name, params in adapter.head.items():
    parent, leaf, _ = parent_of(model, name)
    for kind, value in params.items():
      getattr(getattr(parent, leaf), kind)[...] = jnp.asarray(value)
  return model
