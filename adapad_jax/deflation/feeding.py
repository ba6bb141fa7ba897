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
from adapad_jax.deflation.slots import Slots
from adapad_jax.deflation.split import Split
from adapad_jax.sharding import (
  WORKER,
  Rows,
  row_axes,
  row_shards,
  rows_on,
  shard_order,
)


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
        f' a batch of {self.batch} rows is no multiple of {self.workers} workers'
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
