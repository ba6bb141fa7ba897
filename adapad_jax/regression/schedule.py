"""When a worker trains, when others see it, and how late they hear of it."""

import dataclasses
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.ranges import Count, NonNegative, OneOf
from adapad_jax.regression.checks import check_count
from adapad_jax.settings import check


def _staggered(
  active: jax.Array, energy_S: jax.Array, moved_S: jax.Array, floor: jax.Array
) -> jax.Array:
  """Worker k joins the broadcast at round k: one more a round."""
  del energy_S, moved_S, floor
  return active + 1


def _together(
  active: jax.Array, energy_S: jax.Array, moved_S: jax.Array, floor: jax.Array
) -> jax.Array:
  """All workers broadcast from the first round on."""
  del energy_S, moved_S, floor
  return active


# Share of the noise in one component that may still move in a round.
_SETTLED = 0.01


def _above_noise(
  active: jax.Array, energy_S: jax.Array, moved_S: jax.Array, floor: jax.Array
) -> jax.Array:
  """The next worker joins once it explains more than noise can.

  Until then it trains privately. It also waits until those before it have settled:
  what they have yet to explain would pass for a signal of its own.
  """
  size = energy_S.shape[0]
  unrest = jnp.where(jnp.arange(size) < active, jnp.square(moved_S), 0).max()
  signal = energy_S[jnp.minimum(active, size - 1)] > floor
  return active + (signal & (unrest <= _SETTLED * floor))


# Workers that broadcast in the next round, by those of this one, the energies
# ||b_k a_k^T X||_F^2, how far the terms moved, and the energy that noise may reach.
ACTIVATION = {
  'staggered': _staggered,
  'together': _together,
  'above_noise': _above_noise,
}


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The rounds of a run.

  Attributes:
    rounds: communication rounds at most.
    local_steps: solver steps H a worker takes in a round.
    activation: 'staggered', 'together', or, in `discover` alone, 'above_noise'.
    advance: whether a worker trains privately before it joins.
    tolerance: a run ends when no term b_k a_k^T X moved in a round by more than
      this share of ||Y||_F; 0 runs all rounds.

  Raises:
    ValueError: for values out of range.
  """

  rounds: Count = 100
  local_steps: Count = 1
  activation: Annotated[str, OneOf(ACTIVATION)] = 'staggered'
  advance: bool = True
  tolerance: NonNegative = 0.0

  def __post_init__(self) -> None:
    check(self, 'schedule')
    if self.activation == 'above_noise' and not self.advance:
      raise ValueError(
        "activation='above_noise' needs advance=True: a component must train before"
        ' it can show that it is no noise'
      )

  def first(self, rank: int) -> int:
    """Workers that broadcast at the end of the first round."""
    return {'staggered': 1, 'together': rank, 'above_noise': 0}[self.activation]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Traffic:
  """What goes wrong between workers: late news and absences.

  Attributes:
    late_LR: in round l worker k reads what was broadcast at the end of round
      l - 1 - late.
    absent_LR: in round l worker k neither trains nor broadcasts anything new.
    bound: the largest lateness; so many old versions are kept.
  """

  late_LR: jax.Array | np.ndarray
  absent_LR: jax.Array | np.ndarray
  bound: int = dataclasses.field(metadata={'static': True})


def perfect_traffic(rounds: int, rank: int) -> Traffic:
  """Everybody hears of everything at once."""
  quiet_LR = np.zeros((rounds, rank), np.int32)
  return Traffic(quiet_LR, quiet_LR.astype(bool), 0)


def late_traffic(
  rounds: int, rank: int, bound: int, seed: int | None = None
) -> Traffic:
  """Bounded staleness: everybody `bound` rounds late, or 0..bound at random.

  Args:
    rounds: rounds of the run.
    rank: number of workers.
    bound: the staleness tau in rounds.
    seed: None for the fixed delay; else each worker draws anew every round.

  Raises:
    ValueError: for a bound that is no number from zero on.
  """
  check_count('bound', bound, least=0)
  late_LR = np.full((rounds, rank), bound, np.int32)
  if seed is not None:
    draw = np.random.default_rng(seed)
    late_LR = draw.integers(0, bound + 1, (rounds, rank), np.int32)
  return Traffic(late_LR, np.zeros((rounds, rank), bool), bound)


def absent_traffic(
  rounds: int, rank: int, share: float, length: int, seed: int
) -> Traffic:
  """Workers that drop out for `length` rounds and come back.

  Each worker leaves with such a probability that it misses about `share` of the
  rounds.

  Raises:
    ValueError: for a share outside [0, 1), or a length that is no number from one on.
  """
  check_count('length', length)
  if not 0 <= share < 1:
    raise ValueError(f'share={share!r} must be at least 0 and below 1')
  # On average 1/p rounds present, then `length` absent: share = length/(length+1/p).
  leave = share / max(length * (1 - share), 1e-9)
  draw = np.random.default_rng(seed)
  absent_LR = np.zeros((rounds, rank), bool)
  for k in range(rank):
    l = 0
    while l < rounds:
      if draw.random() < leave:
        absent_LR[l : l + length, k] = True
        l += length
      l += 1
  return Traffic(np.zeros((rounds, rank), np.int32), absent_LR, 0)


def sees(
  rank_r: jax.Array, late_r: jax.Array, active_V: jax.Array, size: int
) -> jax.Array:
  """The (r, V * S) mask of the estimates by which workers deflate.

  Worker k sees predecessor j in version v (0 the newest) if j < k, v is as old as
  k's news, and j was among those who broadcast then.
  """
  version_V, s_S = jnp.arange(active_V.shape[0]), jnp.arange(size)
  before_rS = s_S[None] < rank_r[:, None]
  heard_rV = version_V[None] == late_r[:, None]
  sent_VS = s_S[None] < active_V[:, None]
  mask_rVS = before_rS[:, None] & heard_rV[:, :, None] & sent_VS[None]
  return mask_rVS.reshape(rank_r.shape[0], -1)
