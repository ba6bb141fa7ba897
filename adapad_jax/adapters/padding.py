"""Zero components: what fills an update up to a rank that others have."""

import numpy as np

from adapad_jax.adapters.adapter import LowRank


def padded(update: LowRank, rank: int) -> LowRank:
  """The same update with zero components up to `rank`."""
  more = [(0, rank - update.rank), (0, 0)]
  return LowRank(np.pad(update.a_RI, more), np.pad(update.b_RO, more))


def unpadded(update: LowRank) -> LowRank:
  """The update without the zero components at its end."""
  used = update.a_RI.any(axis=1) | update.b_RO.any(axis=1)
  return update.cut(int(np.max(np.nonzero(used)[0], initial=-1)) + 1)
