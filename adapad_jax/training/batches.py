"""Batches whose content is a pure function of (seed, step): resuming costs nothing."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapad_jax.tasks.ragged import Ragged

Columns = Mapping[str, np.ndarray | Ragged]


# Batches whose rows are sorted by length together, before they are shuffled again.
_GROUPED = 50


def lengths(columns: Columns) -> np.ndarray:
  """Tokens of every row, up to its last one, (N,)."""
  mask_NL = columns['mask_BL']
  if isinstance(mask_NL, Ragged):
    return mask_NL.lengths_N
  return mask_NL.shape[1] - np.argmax(mask_NL[:, ::-1] > 0, axis=1)


def epoch_order(
  rows: int, seed: int, epoch: int, batch: int, lengths_N: np.ndarray | None = None
) -> np.ndarray:
  """The order in which an epoch visits the rows.

  Args:
    rows: rows of the split.
    seed: of the order.
    epoch: its number.
    batch: rows of a batch.
    lengths_N: puts rows of like length into the same batch, so that little padding
      is computed. Batches come in random order, and rows inside one too, since their
      place tells which worker trains on them. Only the batch that two epochs share
      has rows of any length.
  """
  rng = np.random.default_rng((seed, epoch))
  order = rng.permutation(rows)
  if lengths_N is None:
    return order
  # Rows that fill the last batch of the epoch before, and those of whole batches.
  first = min(-epoch * rows % batch, rows)
  last = rows - (rows - first) % batch
  grouped = [order[:first]]
  for start in range(first, last, _GROUPED * batch):
    chunk = order[start : min(start + _GROUPED * batch, last)]
    chunk = chunk[np.argsort(lengths_N[chunk], kind='stable')]
    parts = chunk.reshape(-1, batch)
    grouped += [rng.permutation(parts[i]) for i in rng.permutation(len(parts))]
  return np.concatenate([*grouped, order[last:]])


class Order:
  """The endless sequence of shuffled epochs, a pure function of its settings.

  Epochs follow each other without a gap, so every batch is full and every row is
  seen once an epoch.
  """

  def __init__(
    self, rows: int, batch: int, seed: int, lengths_N: np.ndarray | None = None
  ) -> None:
    self._rows, self._batch = rows, batch
    self._epoch = functools.lru_cache(maxsize=4)(
      lambda epoch: epoch_order(rows, seed, epoch, batch, lengths_N)
    )

  def batch(self, step: int) -> np.ndarray:
    """Rows of batch `step`."""
    place_B = np.arange(step * self._batch, (step + 1) * self._batch)
    epoch_B, index_B = np.divmod(place_B, self._rows)
    return np.array(
      [self._epoch(int(e))[i] for e, i in zip(epoch_B, index_B, strict=True)]
    )


def round_batch(
  columns: Columns, order: Any, first: int, local_steps: int, order_B: np.ndarray
) -> dict[str, np.ndarray]:
  """The batches of one round, (local_steps, batch, ...), rows laid out for a mesh.

  Args:
    columns: the training split's arrays.
    order: which rows a batch has: an `Order` or `partition.PartitionedOrder`.
    first: number of the round's first batch.
    local_steps: batches of a round.
    order_B: of the rows of a batch, see `feeding.Rows`.
  """
  batches = [order.batch(first + h) for h in range(local_steps)]
  picked_HB = np.stack([rows[order_B] for rows in batches])
  return {name: column[picked_HB] for name, column in columns.items()}


def bucket(length: int, buckets: tuple[int, ...], longest: int) -> int:
  """The smallest bucket that holds so many tokens, or the longest length there is."""
  return min((b for b in (*buckets, longest) if b >= length), default=longest)


def cut_to_bucket(columns: Columns, buckets: tuple[int, ...]) -> dict[str, np.ndarray]:
  """Cuts padding that no row of a batch needs, down to the bucket that holds it.

  Args:
    columns: arrays of a batch, or of several; those with an axis L are cut.
    buckets: lengths to choose from; without any, nothing is cut.
  """
  if not buckets:
    return dict(columns)
  mask = columns['mask_BL']
  full = mask.shape[-1]
  used = int(lengths({'mask_BL': mask.reshape(-1, full)}).max(initial=1))
  return _first_positions(columns, bucket(used, buckets, full))


def trimmed(columns: Columns, multiple: int = 8) -> dict[str, np.ndarray]:
  """Cuts trailing positions that no row uses, so that padding is not computed.

  Columns with an axis L are cut alike; its length stays a multiple of `multiple`.
  """
  mask_NL = columns['mask_BL']
  if isinstance(mask_NL, Ragged):
    used = int(mask_NL.lengths_N.max(initial=1))
  else:
    used = int(mask_NL.any(axis=0).nonzero()[0].max(initial=0)) + 1
  return _first_positions(columns, -(-used // multiple) * multiple)


def _first_positions(columns: Columns, length: int) -> dict[str, np.ndarray]:
  """Cuts axis L, which the names tell: another may have the same length by chance."""

  def first(name: str, x: np.ndarray) -> np.ndarray:
    axes = name.rpartition('_')[2]
    if 'L' not in axes:
      return x
    # Counted from the end: an axis of batches may stand in front.
    behind = (slice(None),) * (len(axes) - 1 - axes.index('L'))
    return x[(..., slice(length), *behind)]

  return {name: first(name, x) for name, x in columns.items()}


def padded(columns: Columns, start: int, size: int) -> dict[str, np.ndarray]:
  """Rows start..start + size, missing ones as zeros, which have weight zero."""

  def take(x: np.ndarray) -> np.ndarray:
    part = x[start : start + size]
    short = size - len(part)
    return np.concatenate([part, np.zeros((short, *x.shape[1:]), x.dtype)])

  return {name: take(x) for name, x in columns.items()}
