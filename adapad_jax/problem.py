"""What is trained, whatever the method."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from adapad_jax.optim import Optimizer

# (params, head, deltas, head_weight_B or None, batch, keys_B) -> (loss_B, weight_B):
# the summed loss of each row and its weight; a mean loss is sum(loss) / sum(weight).
# `deltas` are updates by module, or by scanned layer as `stacks` has them,
# `head_weight_B` is what rows weigh in the gradient of the head, `keys_B` has a key for
# the noise of each row. `adapters.adapted_loss` makes one from a loss that knows
# nothing of updates.
LossFn = Callable[..., tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Problem:
  """What is trained, whatever the method.

  Attributes:
    shapes: (in, out) features of the adapted modules, in the order of every M axis.
    params: shapes and dtypes of the model's parameters.
    loss: of the rows of a batch, see `LossFn`.
    optimizer: of the adapters, its warm-up in optimiser steps.
    head_optimizer: of the head.
    steps: batches that the run consumes.
    batch: rows of a batch.
    scale: constant in front of every update (alpha / r in LoRA's terms).
    init: how the input directions start, see `lowrank.initialize`.
    seed: of every random draw.
    accumulate: parts in which a device computes its rows, one after the other.
    stacks: modules that the model runs as one scanned layer, by its name, under which
      the loss also takes one update for all of them, with a leading axis of layers.
    begins: components over all modules that training begins with, those of an imported
      adapter; 0: as many as the method starts with.
  """

  shapes: dict[str, tuple[int, int]]
  params: Any
  loss: LossFn
  optimizer: Optimizer
  head_optimizer: Optimizer
  steps: int
  batch: int
  scale: float
  init: str
  seed: int
  accumulate: int = 1
  stacks: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  begins: int = 0

  @property
  def modules(self) -> tuple[str, ...]:
    """Names of the adapted modules."""
    return tuple(self.shapes)
