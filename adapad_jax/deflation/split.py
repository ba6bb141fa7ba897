"""Rows that are shared among the live workers, a part of them joint."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.nesting import Nesting
from adapad_jax.deflation.slots import Slots
from adapad_jax.sharding import Rows, rows_on


@dataclasses.dataclass(frozen=True)
class Split:
  """Every row belongs to one live worker, or to all of them.

  With fewer rows than workers the owners change from round to round, so that every
  worker has its turn.

  Attributes:
    workers, batch: see `Feeding`.
    shares: 'equal' or 'first', see `AdaPaDSettings`.
    own_rows: the first rows of a batch, which are shared out; the rest are joint.
    nesting: how much of the update a joint row trains.
    polish_from: the round from which on all rows are joint; None: never.
  """

  workers: int
  batch: int
  shares: str
  own_rows: int
  nesting: Nesting
  polish_from: int | None
  is_private = False

  def __post_init__(self) -> None:
    if self.own_rows < 1 and not self.nesting.share:
      raise ValueError(
        "adapad.feeding='split' needs a row that belongs to a worker, but all"
        f' {self.batch} of a batch are joint: use a larger batch or a smaller'
        ' adapad.joint'
      )

  @property
  def has_joint(self) -> bool:
    """Whether rows are ever joint."""
    return self.own_rows < self.batch or self.polish_from is not None

  def own_rows_at(self, step: Any) -> Any:
    """`own_rows`, but 0 in the last rounds, which polish."""
    if self.polish_from is None:
      return self.own_rows
    return jnp.where(step >= self.polish_from, 0, self.own_rows)

  def counts(self, live: int) -> np.ndarray:
    """Rows of each of the first `live` workers; they sum to `own_rows`.

    Where there are as many rows as workers nobody is left without one.
    """
    weights = np.ones(live) if self.shares == 'equal' else 1 / np.arange(1, live + 1)
    edges = np.rint(np.cumsum(weights) / weights.sum() * self.own_rows).astype(int)
    counts = np.diff(edges, prepend=0)
    while self.own_rows >= live and not counts.all():
      counts[np.argmin(counts)] += 1
      counts[np.argmax(counts)] -= 1
    return counts

  def owners(self) -> np.ndarray:
    """owner[n, g] of row g while the first n workers are live, (R + 1, batch)."""
    joint = self.batch - self.own_rows
    rows = [
      np.append(np.repeat(np.arange(n), self.counts(n)), np.full(joint, n - 1))
      for n in range(1, self.workers + 1)
    ]
    return np.stack([rows[0], *rows]).astype(np.int32)

  @property
  def takes_turns(self) -> bool:
    """Whether there are fewer rows than workers, which then have them in turn."""
    return self.own_rows < self.workers

  def owners_at(self, live: Any, step: Any) -> Any:
    """The owner of each row in a round, (batch,), while none is joint."""
    owner_g = jnp.asarray(self.owners())[live]
    return (owner_g + step) % live if self.takes_turns else owner_g

  def last_trained_at(self, live: Any, own_rows: Any, step: Any) -> Any:
    """The last worker that a joint row trains, (batch,); of own rows any.

    Nested rows are the first of the joint ones.
    """
    place_g = np.arange(self.batch) - own_rows
    return self.nesting.last_trained(place_g, self.batch - own_rows, step, live)

  def rate_factors(self, worker_r: Any, live: Any, own_rows: Any) -> tuple[Any, Any]:
    """The rows that train a worker's components, over those that train the first's.

    Adam steps as far on the noisy gradient of a few rows as on any other, so the rate
    is to shrink with their number (arXiv:1706.02677). Joint rows train active
    components beside a worker's own rows, but not what learns in advance. (r,), (r,);
    means over rounds, and over workers of equal shares.
    """
    joint, own_R = self.batch - own_rows, self._own_rows_of(live, own_rows)
    own_r, most = own_R[worker_r], joint + own_R[0]
    joint_r = joint * self.nesting.trained(worker_r, live)
    return (joint_r + own_r) / most, own_r / most

  def _own_rows_of(self, live: Any, own_rows: Any) -> jax.Array:
    """Rows of every worker's own, (R,); the mean over workers of equal shares."""
    if self.shares == 'equal' or self.takes_turns:
      return jnp.full(self.workers, own_rows / live)
    numbers = range(1, self.workers + 1)
    counts = [np.pad(self.counts(n), (0, self.workers - n)) for n in numbers]
    return jnp.asarray(counts, jnp.float32)[live - 1] * own_rows / self.own_rows

  def places(self, owner: Any, own_rows: Any, blocks: int) -> Any:
    """The block of workers that computes row g: its owner's; joint rows go round."""
    g = np.arange(self.batch)
    is_own, block = g < own_rows, -(-self.workers // blocks)
    return is_own * (owner // block) + ~is_own * (g % blocks)

  def capacity(self, blocks: int, shards: int, live: int | None = None) -> int:
    """The most rows that a block of workers has in a shard."""
    if blocks == 1:
      return self.batch // shards
    owners = self.owners()
    own_rows = (self.own_rows,) if self.polish_from is None else (self.own_rows, 0)
    return max(
      int(np.sum(self.places((owners[n] + turn) % n, own, blocks)[shard::shards] == w))
      for n in ([live] if live else range(1, self.workers + 1))
      for turn in range(n if self.takes_turns else 1)
      for own in own_rows
      for shard in range(shards)
      for w in range(blocks)
    )

  def parts(self, shards: int, capacity: int) -> int:
    """All at once: they are no more rows than a batch has."""
    return 1

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """Dealt out over the data axis; every block of workers has all of a shard."""
    return rows_on(mesh, self.batch)

  def slots(
    self,
    live: jax.Array,
    own_rows: Any,
    blocks: int,
    shards: int,
    w: Any,
    d: Any,
    capacity: int,
    step: Any = 0,
  ) -> Slots:
    """The rows of a shard that belong to a block, in their order.

    Row i of data shard d is row g = i * shards + d of the batch, so every shard
    holds rows of every worker in proportion.
    """
    rows, i_C = self.batch // shards, jnp.arange(capacity)
    is_own_g = np.arange(self.batch) < own_rows
    owner_g = jnp.where(
      is_own_g,
      self.owners_at(live, step),
      self.last_trained_at(live, own_rows, step),
    )
    g_b = jnp.arange(rows) * shards + d
    place_b = self.places(owner_g, own_rows, blocks)[g_b]
    order_b = jnp.argsort(place_b, stable=True)
    at_C = jnp.sum(place_b < w) + i_C
    row_C = order_b[jnp.minimum(at_C, rows - 1)]
    valid_C = (at_C < rows) & (place_b[row_C] == w)
    g_C = g_b[row_C]
    return Slots(row_C, g_C, owner_g[g_C], valid_C, g_C >= own_rows)
