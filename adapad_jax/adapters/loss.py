"""The one seam between a loss and the methods: the loss of a model that is adapted.

A loss says what its rows cost the model it is given; a method differentiates that in
the updates and the head. Neither knows of the other.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from adapad_jax.adapters.attach import Attachment
from adapad_jax.adapters.locate import stacks
from adapad_jax.models.split import forgetful
from adapad_jax.optim import Optimizer
from adapad_jax.problem import LossFn, Problem

# (model, batch, keys_B) -> (loss_B, weight_B): each row's summed loss and its weight.
ModelLoss = Callable[[Any, Any, jax.Array], tuple[jax.Array, jax.Array]]


def adapted_loss(
  attachment: Attachment, loss: ModelLoss, remat: bool = False
) -> LossFn:
  """The loss as methods take it, of the model with their updates and head.

  Args:
    attachment: puts the model together; parameters that are divided over devices are
      gathered again in the backward pass, not kept.
    loss: of a model's rows.
    remat: whether the model's layers are recomputed in the backward pass.
  """

  def of_updates(
    params: Any, head: Any, deltas: Any, head_weight_B: Any, batch: Any, keys_B: Any
  ) -> tuple[jax.Array, jax.Array]:
    model = attachment(params, deltas, head, head_weight_B)
    return loss(model, batch, keys_B)

  # Layers that are recomputed gather again by themselves. `forgetful` around them would
  # keep all else that they compute: the policy of the outer one holds inside.
  wraps = attachment.divided and not remat
  return forgetful(of_updates) if wraps else of_updates


def adapted_problem(
  attachment: Attachment,
  model: nnx.Module,
  shapes: dict[str, tuple[int, int]],
  loss: ModelLoss,
  *,
  optimizer: Optimizer,
  head_optimizer: Optimizer,
  steps: int,
  batch: int,
  scale: float = 1.0,
  init: str = 'kaiming',
  seed: int = 0,
  accumulate: int = 1,
  remat: bool = False,
  begins: int = 0,
) -> Problem:
  """What methods train, for a model whose linear layers get updates.

  Args:
    attachment: takes the model's place; see `adapted_loss`.
    model: filled or abstract.
    shapes: (in, out) features of the adapted layers, as `choose` finds them.
    loss: of a model's rows.
    optimizer: of the updates; a warm-up below one is a fraction of the run.
    head_optimizer: of the head, likewise.
    steps, batch, scale, init, seed, accumulate, begins: see `Problem`.
    remat: see `adapted_loss`.
  """
  return Problem(
    shapes=shapes,
    params=nnx.state(model),
    loss=adapted_loss(attachment, loss, remat),
    optimizer=optimizer.resolve(steps),
    head_optimizer=head_optimizer.resolve(steps),
    steps=steps,
    batch=batch,
    scale=scale,
    init=init,
    seed=seed,
    accumulate=accumulate,
    stacks=stacks(model, shapes),
    begins=begins,
  )
