"""The deflation target: what each worker's component is trained to improve on.

             round l                                              round l + 1
  worker 1   [ a1 b1 ]--.  trains: x W + own                      [ a1 b1 ]--.
  worker 2   [ a2 b2 ]--+- trains: x W + 1 + own                  [ a2 b2 ]--+-
  worker 3   [ a3 b3 ]--+- trains: x W + 1 + 2 + own              [ a3 b3 ]--+-
  worker 4   [ a4 b4 ]--'  trains: x W + 1 + 2 + 3 + own          [ a4 b4 ]--'
                        |                                                    |
              one all-gather of one                                one all-gather
              array, then H local steps                            ...
              of all workers at once

In module m, a row of the batch that belongs to worker k sees

  x W_m  +  s sum_{j < k, j active in m} (x a_j) b_j  +  s (x a_k) b_k
  `---------------- deflation target ---------------'    `--- own ---'

- Predecessors j < k, a strictly lower triangle, are as they were broadcast at the
  round's start. They are frozen: no gradient reaches them.
- The own component trains in every module where it is live: where it is active, which
  means part of the deployed update, and one ahead of that. The one ahead learns in
  advance, privately: predecessors count where they are active, so no other row sees it.
- A joint row belongs to no single worker: it sees every active component and trains all
  of them, as in LoRA. A nested one sees and trains those of the first workers, so that
  the update is of use when it is cut there.

A row sees and trains by two 0/1 masks, so rows of all workers share one pair of thin
matrix products, see `lowrank.masked`.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from adapad_jax.deflation.slots import Slots
from adapad_jax.lowrank import Delta, LowRank, Packing
from adapad_jax.lowrank.packing import Place, taken


@dataclasses.dataclass(frozen=True)
class Masks:
  """Who sees and who trains what: rows against components, modules against them.

  Attributes:
    before_BS: 1 where component s is a predecessor of the row's worker.
    own_BS: 1 where component s is the one of the row's worker.
    joint_BS: 1 where the row sees and trains component s, if active, along with others.
    active_MS: 1 where component s is part of module m's deployed update.
    live_MS: 1 where component s trains in module m: active or in advance.
  """

  before_BS: jax.Array
  own_BS: jax.Array
  joint_BS: jax.Array
  active_MS: jax.Array
  live_MS: jax.Array

  @property
  def trains_BS(self) -> jax.Array:
    """1 where the row trains component s, in modules where it may."""
    return self.own_BS + self.joint_BS

  def of(self, at: Place) -> tuple[jax.Array, jax.Array]:
    """What a row sees of the components at a place of the M axis, and what it trains.

    (B, S) each, or (L, B, S) at several places.
    """
    wide = lambda x_BS: x_BS[None] if isinstance(at, tuple) else x_BS
    active, live = (taken(x, at)[..., None, :] for x in (self.active_MS, self.live_MS))
    trains = wide(self.own_BS) * live + wide(self.joint_BS) * active
    return wide(self.before_BS) * active + trains, trains


@dataclasses.dataclass(frozen=True)
class Target:
  """What this device's workers train against during a round.

  Attributes:
    packing: where each module's components lie.
    places: of modules, `Packing.places` with the numbers of a placed state.
    broadcast_SMP: all components as broadcast at the round's start, frozen.
    active_MS, live_MS: see `Masks`.
    scale: s, in front of every component.
    first: index of this device's first worker.
    workers: number of this device's workers.
  """

  packing: Packing
  places: Mapping[str, Place]
  broadcast_SMP: jax.Array
  active_MS: jax.Array
  live_MS: jax.Array
  scale: float
  first: jax.Array
  workers: int

  def part(self, x_S: jax.Array, axis: int = 0) -> jax.Array:
    """This device's part of an axis over all workers."""
    return jax.lax.dynamic_slice_in_dim(x_S, self.first, self.workers, axis)

  def split(self, stack_SMP: jax.Array) -> dict[str, LowRank]:
    """Updates by module, or by scanned layer, of packed components."""
    return self.packing.split(stack_SMP, self.places)

  def deltas(
    self, rows: Slots, broadcast: dict[str, LowRank], local: dict[str, LowRank] | None
  ) -> dict[str, Delta]:
    """Every module's low-rank term, for rows of these owners.

    Args:
      rows: whose they are.
      broadcast: all components as they were broadcast, as `split` has them.
      local: this device's own, once local steps have moved them on; None while they are
        still as in `broadcast`.
    """
    masks = self.masks(rows)
    if local is not None:
      masks = self.local_behind(masks)
      behind = lambda front, own: jnp.concatenate([front, own], axis=-2)
      broadcast = jax.tree.map(behind, broadcast, local)

    def delta(name: str, at: Place) -> Delta:
      update = broadcast[name].scaled(self.scale)
      return Delta(update.a_RI, update.b_RO, *masks.of(at))

    return {name: delta(name, at) for name, at in self.places.items()}

  def masks(self, rows: Slots) -> Masks:
    """The masks over all components as they were broadcast."""
    j_1S, k_B1 = jnp.arange(self.active_MS.shape[1])[None], rows.owner_C[:, None]
    is_joint_B1 = rows.joint_C[:, None]
    wide = lambda x: x.astype(jnp.float32)
    return Masks(
      before_BS=wide((j_1S < k_B1) & ~is_joint_B1),
      own_BS=wide((j_1S == k_B1) & ~is_joint_B1),
      joint_BS=wide((j_1S <= k_B1) & is_joint_B1),
      active_MS=self.active_MS,
      live_MS=self.live_MS,
    )

  def local_behind(self, masks: Masks) -> Masks:
    """The same over [broadcast; local]: predecessors in front, own ones behind."""
    front = lambda x: jnp.pad(x, ((0, 0), (0, self.workers)))
    behind = lambda x: jnp.concatenate([jnp.zeros_like(x), self.part(x, 1)], axis=1)
    return Masks(
      before_BS=front(masks.before_BS),
      own_BS=behind(masks.own_BS),
      joint_BS=behind(masks.joint_BS),
      active_MS=front(masks.active_MS),
      live_MS=behind(masks.live_MS),
    )
