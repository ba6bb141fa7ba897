"""Joint rows that train a prefix of the update, so that it is of use when it is cut."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np


def doubling(most: int) -> tuple[int, ...]:
  """1, 2, 4, ... below `most`, and `most`."""
  powers = (2**n for n in range(most.bit_length()))
  return (*(p for p in powers if p < most), most)


@dataclasses.dataclass(frozen=True)
class Nesting:
  """How far joint rows reach.

  A nested row sees and trains the first n workers' components as if there were no
  others. Nested rows have n = 1, 2, 4, ... and all live workers in turn, so that every
  doubling of the rank counts alike.

  Attributes:
    workers: the capacity r_max.
    share: fraction of the joint rows that is nested; the others train every worker.
  """

  workers: int
  share: float

  def last_trained(self, place_g: Any, rows: Any, step: Any, live: Any) -> Any:
    """The last worker that joint row number `place` of so many trains in a round."""
    is_nested_g = place_g + 0.5 < self.share * rows
    turn_g = (place_g + step) % jnp.sum(self._is_reached_by(live))
    width_g = jnp.minimum(jnp.asarray(self._widths)[turn_g], live)
    return jnp.where(is_nested_g, width_g, live) - 1

  def trained(self, worker_r: Any, live: Any) -> Any:
    """The part of the joint rows of several rounds that trains these workers."""
    width_W1 = jnp.minimum(self._widths, live)[:, None]
    reached_W1 = self._is_reached_by(live)[:, None]
    trained_Wr = reached_W1 & (worker_r[None] < width_W1)
    nested_r = jnp.sum(trained_Wr, axis=0) / jnp.sum(reached_W1)
    return 1 - self.share + self.share * nested_r

  @property
  def _widths(self) -> np.ndarray:
    """Workers that a nested row may train while all are live: 1, 2, 4, ... and all."""
    return np.array(doubling(self.workers))

  def _is_reached_by(self, live: Any) -> Any:
    """Which of these widths there are, the last of them being cut to `live`."""
    return jnp.asarray(np.append(0, self._widths[:-1])) < live
