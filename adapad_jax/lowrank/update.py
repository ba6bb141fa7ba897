"""The update of one module as a stack of rank-one terms."""

import dataclasses
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRank:
  """The update x -> (x a^T) b of one module, Delta W = sum_k a_k^T b_k.

  Component k is row k of both. In an adapter trained by deflation, the first rows are
  a usable smaller update. The rows are arrays of jax while they are trained, and of
  numpy where an adapter is exported, cut or merged.

  Attributes:
    a_RI: input directions.
    b_RO: output directions.
  """

  a_RI: Any
  b_RO: Any

  @property
  def rank(self) -> int:
    """Number of components; may be zero."""
    return len(self.a_RI)

  @property
  def component_size(self) -> int:
    """Parameters of one component, I + O."""
    return self.a_RI.shape[1] + self.b_RO.shape[1]

  def weight(self) -> Any:
    """Delta W, (I, O)."""
    return self.a_RI.T @ self.b_RO

  def cut(self, rank: int) -> 'LowRank':
    """The first `rank` components."""
    return LowRank(self.a_RI[:rank], self.b_RO[:rank])

  def scaled(self, scale: Any) -> 'LowRank':
    """The update times a number, which becomes part of b."""
    return LowRank(self.a_RI, scale * self.b_RO)


def padded(update: LowRank, rank: int) -> LowRank:
  """The same update on the host with zero components up to `rank`."""
  more = [(0, rank - update.rank), (0, 0)]
  return LowRank(np.pad(update.a_RI, more), np.pad(update.b_RO, more))


def unpadded(update: LowRank) -> LowRank:
  """The update on the host without the zero components at its end."""
  used = update.a_RI.any(axis=1) | update.b_RO.any(axis=1)
  return update.cut(int(np.max(np.nonzero(used)[0], initial=-1)) + 1)


def no_updates(shapes: dict[str, tuple[int, int]]) -> dict[str, LowRank]:
  """Updates without any component, for modules of the given (I, O) shapes."""
  nothing = lambda features: jax.numpy.zeros((0, features))
  return {name: LowRank(nothing(i), nothing(o)) for name, (i, o) in shapes.items()}


def check_rank(shapes: dict[str, tuple[int, int]], rank: int, setting: str) -> None:
  """Refuses more components than a module has dimensions.

  Raises:
    ValueError: naming the setting and the smallest module.
  """
  name = min(shapes, key=lambda module: min(shapes[module]))
  if not 1 <= rank <= min(shapes[name]):
    raise ValueError(
      f'{setting} is {rank}; must be in 1..{min(shapes[name])}, since {name} is'
      f' {shapes[name][0]} x {shapes[name][1]}'
    )
