"""Tasks: text and labels in, a loss and the official metrics out.

Axis letters, declared here for the whole package: N rows of a split, B rows of a
batch, L positions, C classes, V vocabulary entries.
"""

from adapad_jax.tasks.config import ChatConfig, DataConfig, QaConfig
from adapad_jax.tasks.load import expected_head, load_task
from adapad_jax.tasks.task import Baseline, Split, Splits, Task

__all__ = [
  'Baseline',
  'ChatConfig',
  'DataConfig',
  'QaConfig',
  'Split',
  'Splits',
  'Task',
  'expected_head',
  'load_task',
]
