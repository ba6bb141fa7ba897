"""Joint rows that train a prefix of the update, so that it is of use when it is cut."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

# A share is known to a part in so many.
_WHOLE = 1000


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
    before = self._nested_before(rows, step)
    is_nested_g = place_g < self._nested_before(rows, step + 1) - before
    # Each round begins one width further, or each row where some rounds have none.
    turn = before // jnp.maximum(self._parts * rows // _WHOLE, 1)
    turn_g = (place_g + turn) % jnp.sum(self._is_reached_by(live))
    width_g = jnp.minimum(jnp.asarray(self._widths)[turn_g], live)
    return jnp.where(is_nested_g, width_g, live) - 1

  def trained(self, worker_r: Any, live: Any) -> Any:
    """The part of the joint rows of several rounds that trains these workers."""
    width_W1 = jnp.minimum(self._widths, live)[:, None]
    reached_W1 = self._is_reached_by(live)[:, None]
    trained_Wr = reached_W1 & (worker_r[None] < width_W1)
    nested_r = jnp.sum(trained_Wr, axis=0) / jnp.sum(reached_W1)
    share = self._parts / _WHOLE
    return 1 - share + share * nested_r

  def _nested_before(self, rows: Any, step: Any) -> Any:
    """Nested rows in all rounds before one: as near to the share as whole rows come."""
    # In whole numbers, since late in a run a float32 could not count them.
    whole, part = step // _WHOLE, step % _WHOLE
    return whole * self._parts * rows + part * self._parts * rows // _WHOLE

  @property
  def _parts(self) -> int:
    """The share in parts of `_WHOLE`."""
    return round(self.share * _WHOLE)

  @property
  def _widths(self) -> np.ndarray:
    """Workers that a nested row may train while all are live: 1, 2, 4, ... and all."""
    return np.array(doubling(self.workers))

  def _is_reached_by(self, live: Any) -> Any:
    """Which of these widths there are, the last of them being cut to `live`."""
    return jnp.asarray(np.append(0, self._widths[:-1])) < live
