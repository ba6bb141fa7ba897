"""Which fields of `DataConfig` a task reads: the others are refused, not ignored."""

from collections.abc import Collection

from adapad_jax.settings import unread
from adapad_jax.tasks.config import DataConfig

# Of every task.
ROWS = frozenset(
  {'task', 'max_length', 'max_train_rows', 'max_eval_rows', 'holdout', 'cache'}
)
# A folder, or a data set on the hub.
PLACE = frozenset({'path', 'revision', 'subset'})
FILES = PLACE | {'train', 'validation', 'test'}
REGRESSION = FILES | {'text', 'label'}
CLASSIFICATION = REGRESSION | {'labels'}
QUESTIONS = FILES | {'qa'}
CHATS = FILES | {
  'prompt',
  'completion',
  'messages',
  'weights',
  'bad_rows',
  'chat',
  'generation',
}


def require_read(config: DataConfig, reads: Collection[str]) -> None:
  """Refuses a field that was set, and that its task does not read.

  Args:
    config: the data.
    reads: the fields that the task reads beside those of `ROWS`.

  Raises:
    ValueError: naming the first such field, and what the task reads.
  """
  known = ROWS.union(reads)
  for name, value in unread(config, DataConfig(), known):
    raise ValueError(
      f'data.{name}={value!r} is not read by task {config.task!r}; what it reads of'
      f' data is {", ".join(sorted(known))}'
    )
