"""Which components a row sees, and which one it trains."""

import dataclasses

import jax

from adapad_jax.lowrank import Delta


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Masks:
  """Who sees and who trains what: rows against components, modules against them.

  Attributes:
    before_BS: 1 where component s is a predecessor of the row's worker.
    own_BS: 1 where component s belongs to the row's worker.
    joint_B1: 1 where a row sees and trains every active component instead.
    active_MS: 1 where component s is part of module m's deployed update.
    live_MS: 1 where component s trains in module m: active or advance.
  """

  before_BS: jax.Array
  own_BS: jax.Array
  joint_B1: jax.Array
  active_MS: jax.Array
  live_MS: jax.Array

  def delta(self, m: int, a_SI: jax.Array, b_SO: jax.Array) -> Delta:
    """The term of module m under these masks."""
    active_1S, live_1S = self.active_MS[m][None], self.live_MS[m][None]
    trains_BS = self.own_BS * live_1S + self.joint_B1 * active_1S
    return Delta(a_SI, b_SO, self.before_BS * active_1S + trains_BS, trains_BS)
