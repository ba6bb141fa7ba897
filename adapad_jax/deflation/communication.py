"""What leaves a worker in a round, in bytes."""

import dataclasses

import jax
import numpy as np

from adapad_jax.deflation.deflation import Deflation
from adapad_jax.deflation.state import State


@dataclasses.dataclass(frozen=True)
class BytesSent:
  """Bytes that one worker of its own device sends in a round, whoever receives them.

  Attributes:
    components: its component of every module, padded to the widest.
    head: the gradient of the shared head, summed over its rows.
    statistics: loss, norm and weight by worker, importance by module, flags.
    gradients: of all components by its joint rows, with losses and weights, where
      there are any.
  """

  components: int
  head: int
  statistics: int
  gradients: int = 0

  @property
  def total(self) -> int:
    """All of it: nothing else leaves a worker, its rows never do."""
    return self.components + self.head + self.statistics + self.gradients


def bytes_sent(method: Deflation, state: State) -> BytesSent:
  """What leaves a worker in a round of a run, from shapes alone.

  Args:
    method: what runs.
    state: its state, which may be abstract.
  """
  size = lambda tree: sum(
    int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
  )
  workers, modules, _ = state.stack_RMP.shape
  return BytesSent(
    components=size(state.stack_RMP) // workers,
    head=size(state.head),
    # `worker.Statistics`: three by worker, one by module, the head's weight, a flag.
    statistics=4 * (3 * workers + modules + 2),
    gradients=size(state.stack_RMP) + 12 * workers if method.feeding.has_joint else 0,
  )
