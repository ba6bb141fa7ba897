"""Low-rank updates in the linear layers of any flax nnx model."""

from adapad_jax.adapters.attach import Attachment, attach, split_model
from adapad_jax.adapters.loss import ModelLoss, adapted_loss, adapted_problem
from adapad_jax.adapters.merge import merge
from adapad_jax.adapters.targets import Targets, choose, linear_shapes

__all__ = [
  'Attachment',
  'ModelLoss',
  'Targets',
  'adapted_loss',
  'adapted_problem',
  'attach',
  'choose',
  'linear_shapes',
  'merge',
  'split_model',
]
