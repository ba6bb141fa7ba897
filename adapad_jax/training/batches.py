"""Batches whose content is a pure function of (seed, step): resuming costs nothing."""

import functools
from collections.abc import Mapping

import numpy as np

from adapad_jax.deflation.feeding import shard_order

Columns = Mapping[str, np.ndarray]


@functools.lru_cache(maxsize=4)
def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
  """The order in which an epoch visits the rows."""
  return np.random.default_rng((seed, epoch)).permutation(rows)


def batch_rows(rows: int, batch: int, step: int, seed: int) -> np.ndarray:
  """Rows of batch `step` of the endless sequence of shuffled epochs.

  Epochs follow each other without a gap, so every batch is full and every row is
  seen once an epoch.
  """
  place_B = np.arange(step * batch, (step + 1) * batch)
  epoch_B, index_B = np.divmod(place_B, rows)
  orders = {epoch: epoch_order(rows, seed, int(epoch)) for epoch in np.unique(epoch_B)}
  return np.array([orders[e][i] for e, i in zip(epoch_B, index_B, strict=True)])


def round_batch(
  columns: Columns, first: int, local_steps: int, batch: int, seed: int, shards: int
) -> dict[str, np.ndarray]:
  """The batches of one round, (local_steps, batch, ...), rows in shard order.

  Args:
    columns: the training split's arrays.
    first: number of the round's first batch.
    local_steps: batches of a round.
    batch: rows of a batch.
    seed: of the order.
    shards: size of the mesh's data axis.
  """
  rows = len(next(iter(columns.values())))
  order = shard_order(batch, shards)
  picked_HB = np.stack(
    [batch_rows(rows, batch, first + h, seed)[order] for h in range(local_steps)]
  )
  return {name: column[picked_HB] for name, column in columns.items()}


def trimmed(columns: Columns, multiple: int = 8) -> dict[str, np.ndarray]:
  """Cuts trailing positions that no row uses, so that padding is not computed.

  Columns of more than one axis whose second axis is as long as the mask's are cut
  alike; the length stays a multiple of `multiple`.
  """
  mask_NL = columns['mask_BL']
  used = int(mask_NL.any(axis=0).nonzero()[0].max(initial=0)) + 1
  full = mask_NL.shape[1]
  length = min(-(-used // multiple) * multiple, full)
  return {
    name: x[:, :length] if x.ndim > 1 and x.shape[1] == full else x
    for name, x in columns.items()
  }


def padded(columns: Columns, start: int, size: int) -> dict[str, np.ndarray]:
  """Rows start..start + size, missing ones as zeros, which have weight zero."""

  def take(x: np.ndarray) -> np.ndarray:
    part = x[start : start + size]
    short = size - len(part)
    return np.concatenate([part, np.zeros((short, *x.shape[1:]), x.dtype)])

  return {name: take(x) for name, x in columns.items()}
