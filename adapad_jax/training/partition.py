"""A partition of the training data among workers that keep theirs to themselves."""

import numpy as np

from adapad_jax.methods import Private
from adapad_jax.training.batches import Columns, Order

# Draws of a skewed division before giving up on one that leaves nobody short.
_DRAWS = 1000


def by_index(rows: int, workers: int, seed: int) -> list[np.ndarray]:
  """An even random division of the rows, one array of row numbers a worker.

  Raises:
    ValueError: if there are fewer rows than workers.
  """
  if rows < workers:
    raise ValueError(
      f'{rows} training rows cannot be divided among {workers} workers that keep theirs'
      " to themselves (adapad.feeding='federated'); lower adapad.r_max"
    )
  order_N = np.random.default_rng(seed).permutation(rows)
  return np.array_split(order_N, workers)


def by_label(
  label_N: np.ndarray, workers: int, skew: float, seed: int, least: int
) -> list[np.ndarray]:
  """A division in which labels are spread unevenly (arXiv:1909.06335).

  The rows of every label go to the workers in proportions drawn from a symmetric
  Dirichlet distribution, drawn anew until nobody has less than `least` rows.

  Args:
    label_N: class of every row.
    workers: number of parts.
    skew: the distribution's parameter; large is even, below one a worker sees few
      labels.
    seed: of the draw.
    least: rows that a worker needs.

  Raises:
    ValueError: if labels are no classes, or no draw leaves everybody enough.
  """
  if not np.issubdtype(label_N.dtype, np.integer):
    raise ValueError(
      f'adapad.skew spreads classes unevenly, but labels are {label_N.dtype}; use 0,'
      ' which divides rows by index'
    )
  rng = np.random.default_rng(seed)
  for _ in range(_DRAWS):
    parts = _draw(label_N, workers, skew, rng)
    if min(map(len, parts)) >= least:
      return parts
  raise ValueError(
    f'no division of {len(label_N)} rows among {workers} workers by adapad.skew={skew}'
    f' gives everybody {least} rows, in {_DRAWS} draws; raise it'
  )


def _draw(
  label_N: np.ndarray, workers: int, skew: float, rng: np.random.Generator
) -> list[np.ndarray]:
  parts: list[list[np.ndarray]] = [[] for _ in range(workers)]
  for label in np.unique(label_N):
    found = rng.permutation(np.flatnonzero(label_N == label))
    part_K = rng.dirichlet(np.full(workers, skew))
    edges = np.rint(np.cumsum(part_K)[:-1] * len(found)).astype(int)
    for mine, rows in zip(parts, np.split(found, edges), strict=True):
      mine.append(rows)
  return [np.concatenate(mine) for mine in parts]


class PartitionedOrder:
  """Batches in which every worker has as many rows, all from its own part.

  Rows lie worker by worker. A worker goes through its part in epochs of its own.

  Args:
    parts: row numbers by worker.
    batch: rows of a batch; a multiple of the workers.
    seed: of the order.
    lengths_N: see `batches.epoch_order`.
  """

  def __init__(
    self,
    parts: list[np.ndarray],
    batch: int,
    seed: int,
    lengths_N: np.ndarray | None = None,
  ) -> None:
    each, self._parts = batch // len(parts), parts
    own = lambda part: None if lengths_N is None else lengths_N[part]
    streams = np.random.SeedSequence(seed).generate_state(len(parts))
    self._orders = [
      Order(len(part), each, int(stream), own(part))
      for part, stream in zip(parts, streams, strict=True)
    ]

  def batch(self, step: int) -> np.ndarray:
    """Rows of batch `step`."""
    pairs = zip(self._parts, self._orders, strict=True)
    return np.concatenate([part[order.batch(step)] for part, order in pairs])


def divided(
  private: Private, columns: Columns, batch: int, seed: int
) -> list[np.ndarray]:
  """The rows of each worker that has data of its own, as numbers.

  Args:
    private: who they are.
    columns: the training data.
    batch: rows of a batch.
    seed: of the partition.

  Raises:
    ValueError: if the data cannot be divided as wanted.
  """
  if not private.skew:
    return by_index(len(next(iter(columns.values()))), private.workers, seed)
  if 'label_B' not in columns:
    raise ValueError(
      f'adapad.skew={private.skew} spreads classes unevenly, but the task has none;'
      ' use 0, which divides rows by index'
    )
  each, label_N = batch // private.workers, columns['label_B']
  return by_label(label_N, private.workers, private.skew, seed, each)


def make_order(
  private: Private | None,
  columns: Columns,
  batch: int,
  seed: int,
  lengths_N: np.ndarray | None = None,
) -> Order | PartitionedOrder:
  """Which rows the batches of a run have.

  Args:
    private: who has data of its own; None: all see all of it.
    columns: the training data.
    batch: rows of a batch.
    seed: of the order and of the partition.
    lengths_N: see `batches.epoch_order`.

  Raises:
    ValueError: if the data cannot be divided as wanted.
  """
  if private is None:
    return Order(len(next(iter(columns.values()))), batch, seed, lengths_N)
  parts = divided(private, columns, batch, seed)
  return PartitionedOrder(parts, batch, seed, lengths_N)
