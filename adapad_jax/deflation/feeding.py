"""Which worker trains on which row of a batch.

`Split`: the rows are shared among the live workers alone, the compute of plain LoRA; a
part of them may be joint rows, which train all workers' components at once, or, where
they are nested, those of the first workers.
`Replicate`: every live worker sees every row, r times the compute. `Federated`: a batch
has as many rows for each worker, live or not, drawn from data that the others never
see; a device of the worker axis gets those of its own workers alone.

Worker k is live while it owns a component that trains somewhere; since ranks grow one
at a time the live workers are always the first n.

Assignments are tables indexed by n, looked up inside the compiled step, so a rank
that is granted changes data and not shapes. They do not depend on the mesh: row g
of the batch has the same owner whatever the number of devices.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.nesting import Nesting
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.sharding import (
  WORKER,
  Rows,
  row_axes,
  row_shards,
  rows_on,
  shard_order,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """The rows that one device computes.

  Attributes:
    row_C: index into the device's batch.
    number_C: place in what the owner sees of a batch, the same on every mesh.
    owner_C: the worker that trains on it; of a joint row the last that does.
    valid_C: whether the slot is used.
    joint_C: whether the row trains the active components of workers before too.
  """

  row_C: jax.Array
  number_C: jax.Array
  owner_C: jax.Array
  valid_C: jax.Array
  joint_C: jax.Array


class Feeding(Protocol):
  """How the rows of a batch are shared among workers.

  Attributes:
    workers: the capacity r_max.
    batch: rows of a global batch.
    has_joint: whether rows are ever joint.
    is_private: whether workers have data that the others never see.
  """

  workers: int
  batch: int
  has_joint: bool
  is_private: bool

  def own_rows_at(self, step: Any) -> Any:
    """The first rows of a batch, which belong to single workers; the rest are joint."""

  def rate_factors(self, worker_r: Any, live: Any, own_rows: Any) -> tuple[Any, Any]:
    """What the rates of workers' active and advance components are multiplied by."""

  def capacity(self, blocks: int, shards: int, live: int | None = None) -> int:
    """Slots a device needs, with workers over `blocks` and rows over `shards`.

    Args:
      blocks: size of the worker axis of the mesh.
      shards: parts into which the rows of a batch are divided.
      live: number of live workers if known; None stands for any number.
    """

  def parts(self, shards: int, capacity: int) -> int:
    """Parts in which a device computes its slots where many rows at once gain nothing.

    Args:
      shards: see `capacity`.
      capacity: slots of the device.
    """

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """How the rows of a batch are laid out, so that devices get theirs.

    Raises:
      ValueError: if the mesh does not divide what it has to.
    """

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
    """The rows of device (w, d) in a round; all but sizes may be traced.

    `own_rows` is what `own_rows_at` says.
    """


def make_feeding(settings: AdaPaDSettings, batch: int, rounds: int) -> Feeding:
  """The feeding of a run with batches of so many rows.

  Raises:
    ValueError: if the batch has too few rows, or cannot be divided.
  """
  if settings.feeding == 'replicate':
    return Replicate(settings.r_max, batch)
  if settings.feeding == 'federated':
    return Federated(settings.r_max, batch)
  return Split(
    workers=settings.r_max,
    batch=batch,
    shares=settings.shares,
    own_rows=settings.own_rows(batch),
    nesting=Nesting(settings.r_max, settings.nested),
    polish_from=round((1 - settings.polish) * rounds) if settings.polish else None,
  )


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
        f' {self.batch} of a batch are joint: use a larger train.batch or a smaller'
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
    means over rounds.
    """
    joint, own_R = self.batch - own_rows, self._own_rows_of(live, own_rows)
    own_r, most = own_R[worker_r], joint + own_R[0]
    joint_r = joint * self.nesting.trained(worker_r, live)
    return (joint_r + own_r) / most, own_r / most

  def _own_rows_of(self, live: Any, own_rows: Any) -> jax.Array:
    """Rows of every worker's own, (R,); a mean over rounds where they are alike."""
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


@dataclasses.dataclass(frozen=True)
class _WorkerByWorker:
  """A device computes as many rows for each of its workers, one worker's after another.

  Attributes:
    workers, batch: see `Feeding`.
  """

  workers: int
  batch: int
  has_joint = False
  is_private = False

  def own_rows_at(self, step: Any) -> int:
    """All of them."""
    return self.batch

  def rate_factors(self, worker_r: Any, live: Any, own_rows: Any) -> tuple[Any, Any]:
    """All ones: no row is joint."""
    return jnp.ones(len(worker_r)), jnp.ones(len(worker_r))

  def rows_of_worker(self, shards: int) -> int:
    """Rows of a batch that a worker sees on a device."""
    return self.batch // shards

  def capacity(self, blocks: int, shards: int, live: int | None = None) -> int:
    """The rows of a block's live workers."""
    block = -(-self.workers // blocks)
    return self.rows_of_worker(shards) * min(block, live or block)

  def parts(self, shards: int, capacity: int) -> int:
    """A worker's rows at a time."""
    return -(-capacity // self.rows_of_worker(shards))

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """Dealt out over the data axis; every worker sees all of a shard."""
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
    """The rows of a block's workers; slots of those that are not live are idle."""
    own, block = self.rows_of_worker(shards), -(-self.workers // blocks)
    i_C = jnp.arange(capacity)
    owner_C, place_C = w * block + i_C // own, i_C % own
    valid_C = (i_C < own * block) & (owner_C < live)
    row_C = self._row(i_C, place_C, own * block)
    return Slots(
      row_C, place_C * shards + d, owner_C, valid_C, jnp.zeros(capacity, bool)
    )

  def _row(self, i_C: jax.Array, place_C: jax.Array, rows: int) -> jax.Array:
    """Where in the device's batch a slot's row lies: all workers share its rows."""
    return place_C


@dataclasses.dataclass(frozen=True)
class Replicate(_WorkerByWorker):
  """Every worker sees every row."""


@dataclasses.dataclass(frozen=True)
class Federated(_WorkerByWorker):
  """A batch has as many rows for each worker, from data that others never see."""

  is_private = True

  def __post_init__(self) -> None:
    if self.batch % self.workers:
      raise ValueError(
        "adapad.feeding='federated' gives every worker as many rows, but"
        f' train.batch={self.batch} is no multiple of {self.workers} workers'
        ' (adapad.r_max); choose one that is'
      )

  def rows_of_worker(self, shards: int) -> int:
    """Rows of a batch that a worker sees on a device."""
    return self.batch // self.workers // shards

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """Over the worker axis too: nobody else gets a worker's rows."""
    blocks, shards, own = mesh.shape[WORKER], row_shards(mesh), self.rows_of_worker(1)
    if self.workers % blocks or own % shards:
      raise ValueError(
        f"adapad.feeding='federated' cannot spread {self.workers} workers of {own} rows"
        f' each over a mesh {dict(mesh.shape)}: the worker axis must divide the'
        ' workers, and data x model the rows of one'
      )
    order_KI = shard_order(own, shards)[None] + own * np.arange(self.workers)[:, None]
    # (blocks, workers of a block, shards, rows): a device's rows lie together.
    order_B = order_KI.reshape(blocks, -1, shards, own // shards).swapaxes(1, 2).ravel()
    return Rows(order_B, (WORKER, *row_axes(mesh)))

  def _row(self, i_C: jax.Array, place_C: jax.Array, rows: int) -> jax.Array:
    """Where in the device's batch a slot's row lies: each worker has its own."""
    return jnp.minimum(i_C, rows - 1)
