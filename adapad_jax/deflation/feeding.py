"""Which worker trains on which row of a batch.

`replicate`: every live worker sees every row, r times the compute of LoRA. `split`:
the rows are shared among the live workers alone, the compute of plain LoRA; a part of
them may be joint rows, which train all workers' components at once. `federated`: a
batch has as many rows for each worker, live or not, drawn from data that the others
never see; a device of the worker axis gets those of its own workers alone.

Worker k is live while it owns a component that trains somewhere; since ranks grow one
at a time the live workers are always the first n.

Assignments are tables indexed by n, looked up inside the compiled step, so a rank
that is granted changes data and not shapes. They do not depend on the mesh: row g
of the batch has the same owner whatever the number of devices.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.ranges import Count, Fraction, OneOf
from adapad_jax.settings import check
from adapad_jax.sharding import WORKER, row_axes, row_shards

MODES = ('split', 'replicate', 'federated')
SHARES = ('equal', 'first')


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Slots:
  """The rows that one device computes.

  Attributes:
    row_C: index into the device's batch.
    number_C: place in what the owner sees of a batch, the same on every mesh.
    owner_C: the worker that trains on it; of a joint row the last live one.
    valid_C: whether the slot is used.
    joint_C: whether the row sees and trains every active component.
  """

  row_C: jax.Array
  number_C: jax.Array
  owner_C: jax.Array
  valid_C: jax.Array
  joint_C: jax.Array


@dataclasses.dataclass(frozen=True)
class Rows:
  """How the rows of a batch lie on a mesh.

  Attributes:
    order_B: the row of the batch at each place.
    axes: mesh axes that divide the places, contiguous ones for a device.
  """

  order_B: np.ndarray
  axes: tuple[str, ...]

  @property
  def spec(self) -> jax.sharding.PartitionSpec:
    """Of arrays (steps, batch, ...)."""
    return jax.P(None, self.axes)


def rows_on(mesh: jax.sharding.Mesh, batch: int) -> Rows:
  """Rows dealt out to all devices of one place on the worker axis."""
  return Rows(shard_order(batch, row_shards(mesh)), row_axes(mesh))


@dataclasses.dataclass(frozen=True)
class Feeding:
  """How a batch of `batch` rows is shared among `workers` workers.

  Attributes:
    mode: 'split', 'replicate' or 'federated'.
    shares: for 'split': 'equal', or 'first' (weights 1, 1/2, 1/3, ... so that early
      components, which all others build on, see more).
    joint: for 'split': the fraction of the rows that belong to no single worker: they
      see the whole update, and train all of it. 0 is pure deflation.
    polish: for 'split': the fraction of the run, at its end, in which every row is
      joint.
    workers: the capacity r_max.
    batch: rows of a global batch.
  """

  mode: Annotated[str, OneOf(MODES)] = 'split'
  shares: Annotated[str, OneOf(SHARES)] = 'equal'
  joint: Fraction = 0.0
  polish: Fraction = 0.0
  workers: Count = 4
  batch: Count = 32

  def __post_init__(self) -> None:
    names = {'mode': 'adapad.feeding', 'workers': 'adapad.r_max'}
    check(self, 'adapad', batch='train.batch', **names)
    for field in ('joint', 'polish'):
      value = getattr(self, field)
      if value and self.mode != 'split':
        raise ValueError(
          f"adapad.{field}={value} needs adapad.feeding='split': in {self.mode!r} the"
          ' rows of a worker are set'
        )
    if self.mode == 'split' and self.own_rows < self.workers:
      raise ValueError(
        "adapad.feeding='split' needs at least one row for each worker:"
        f' {self.own_rows} of the batch of {self.batch} < workers {self.workers}; use a'
        ' larger train.batch, a smaller adapad.r_max or adapad.joint, or'
        " adapad.feeding='replicate'"
      )
    if self.mode == 'federated' and self.batch % self.workers:
      raise ValueError(
        "adapad.feeding='federated' gives every worker as many rows, but"
        f' train.batch={self.batch} is no multiple of {self.workers} workers'
        ' (adapad.r_max); choose one that is'
      )

  @property
  def own_rows(self) -> int:
    """The first rows of a batch, which are shared out; the rest are joint."""
    return self.batch - round(self.joint * self.batch)

  @property
  def has_joint(self) -> bool:
    """Whether rows are ever joint."""
    return self.joint > 0 or self.polish > 0

  def own_rows_at(self, step: Any, rounds: int) -> Any:
    """`own_rows`, but 0 in the last rounds, which polish."""
    if not self.polish:
      return self.own_rows
    return jnp.where(step >= round((1 - self.polish) * rounds), 0, self.own_rows)

  def counts(self, live: int) -> np.ndarray:
    """Rows of each of the first `live` workers; they sum to `own_rows`."""
    weights = np.ones(live) if self.shares == 'equal' else 1 / np.arange(1, live + 1)
    edges = np.rint(np.cumsum(weights) / weights.sum() * self.own_rows).astype(int)
    return np.diff(edges, prepend=0)

  def owners(self) -> np.ndarray:
    """owner[n, g] of row g while the first n workers are live, (R + 1, batch)."""
    joint = self.batch - self.own_rows
    rows = [
      np.append(np.repeat(np.arange(n), self.counts(n)), np.full(joint, n - 1))
      for n in range(1, self.workers + 1)
    ]
    return np.stack([rows[0], *rows]).astype(np.int32)

  def places(self, owner: Any, own_rows: Any, blocks: int) -> Any:
    """The block of workers that computes row g: its owner's; joint rows go round."""
    g = np.arange(self.batch)
    is_own, block = g < own_rows, -(-self.workers // blocks)
    return is_own * (owner // block) + ~is_own * (g % blocks)

  def capacity(self, blocks: int, shards: int, live: int | None = None) -> int:
    """Slots a device needs, with workers over `blocks` and rows over `shards`.

    Args:
      blocks: size of the worker axis of the mesh.
      shards: size of the data axis.
      live: number of live workers if known; None stands for any number.
    """
    rows = self.batch // shards
    block = -(-self.workers // blocks)
    if self.mode != 'split':
      return self.rows_of_worker(shards) * min(block, live or block)
    if blocks == 1:
      return rows
    tables = self.owners()[[live] if live else slice(1, None)]
    own_rows = (self.own_rows, 0) if self.polish else (self.own_rows,)
    return max(
      int(np.sum(self.places(table, own, blocks)[shard::shards] == w))
      for table in tables
      for own in own_rows
      for shard in range(shards)
      for w in range(blocks)
    )

  def rows_of_worker(self, shards: int) -> int:
    """Rows of a batch that a worker sees on a device, but for `split`."""
    part = self.workers if self.mode == 'federated' else 1
    return self.batch // part // shards

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """How the rows of a batch are laid out, so that devices get theirs.

    Raises:
      ValueError: if the mesh does not divide the rows, or in `federated` the workers.
    """
    if self.mode != 'federated':
      return rows_on(mesh, self.batch)
    blocks, shards, own = mesh.shape[WORKER], row_shards(mesh), self.rows_of_worker(1)
    if self.workers % blocks or own % shards:
      raise ValueError(
        f'feeding.mode federated cannot spread {self.workers} workers of {own} rows'
        f' each over a mesh {dict(mesh.shape)}: the worker axis must divide the'
        ' workers, and data x model the rows of one'
      )
    order_KI = shard_order(own, shards)[None] + own * np.arange(self.workers)[:, None]
    # (blocks, workers of a block, shards, rows): a device's rows lie together.
    order_B = order_KI.reshape(blocks, -1, shards, own // shards).swapaxes(1, 2).ravel()
    return Rows(order_B, (WORKER, *row_axes(mesh)))

  def slots(
    self,
    live: jax.Array,
    own_rows: Any,
    blocks: int,
    shards: int,
    w: Any,
    d: Any,
    capacity: int,
  ) -> Slots:
    """The rows of device (w, d); all but sizes may be traced.

    `own_rows` is what `own_rows_at` says.

    Row i of data shard d is row g = i * shards + d of the batch, so every shard
    holds rows of every worker in proportion.
    """
    rows = self.batch // shards
    block = -(-self.workers // blocks)
    i_C = jnp.arange(capacity)
    if self.mode != 'split':
      own = self.rows_of_worker(shards)
      owner_C, place_C = w * block + i_C // own, i_C % own
      row_C = place_C if self.mode == 'replicate' else jnp.minimum(i_C, own * block - 1)
      valid_C = (i_C < own * block) & (owner_C < live)
      number_C = place_C * shards + d
      return Slots(row_C, number_C, owner_C, valid_C, jnp.zeros(capacity, bool))
    is_own_g = np.arange(self.batch) < own_rows
    owner_g = jnp.where(is_own_g, jnp.asarray(self.owners())[live], live - 1)
    g_b = jnp.arange(rows) * shards + d
    place_b = self.places(owner_g, own_rows, blocks)[g_b]
    order_b = jnp.argsort(place_b, stable=True)
    at_C = jnp.sum(place_b < w) + i_C
    row_C = order_b[jnp.minimum(at_C, rows - 1)]
    valid_C = (at_C < rows) & (place_b[row_C] == w)
    g_C = g_b[row_C]
    return Slots(row_C, g_C, owner_g[g_C], valid_C, g_C >= own_rows)


def shard_order(batch: int, shards: int) -> np.ndarray:
  """Order in which rows are laid out so that contiguous shard d holds g = d mod shards.

  Raises:
    ValueError: if the shards do not divide the batch.
  """
  if batch % shards:
    fits = [n for n in range(1, batch + 1) if batch % n == 0]
    raise ValueError(
      f'the data axis of {shards} device(s) does not divide the batch of {batch}'
      f' rows; choose a data axis from {fits}, or another batch'
    )
  return np.arange(batch).reshape(batch // shards, shards).T.ravel()
