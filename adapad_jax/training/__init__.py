"""Fine-tuning: task, model and method tied together, with checkpoints and logs."""

from adapad_jax.training.config import FinetuneConfig, finetune_config
from adapad_jax.training.loop import Diverged
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.train import Interrupted, train

__all__ = [
  'Diverged',
  'FinetuneConfig',
  'Interrupted',
  'Plan',
  'finetune_config',
  'make_plan',
  'train',
]
