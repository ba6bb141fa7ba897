"""What to read and how to cut it into rows of fixed length."""

import dataclasses

MIN_LENGTH = 8


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Names a task and the data it reads.

  Attributes:
    task: a GLUE task ('cola', 'sst2', ...), 'rotten_tomatoes', or 'classification'
      or 'regression' for one's own files.
    path: a folder to read instead of the hub: official GLUE .tsv files, a saved
      `datasets` folder, or files named after splits (train.csv, ...).
    train: one's own training file (.csv, .tsv, .jsonl or .parquet).
    validation: one's own validation file.
    test: one's own test file; labels may be missing.
    text: the one or two text columns of one's own files.
    label: the label column of one's own files.
    labels: the label set, in order; empty means what the training data holds.
    max_length: tokens per row; longer rows are cut, shorter ones padded.
    max_train_rows: rows to train on, drawn once with a fixed seed; 0 means all.
    max_eval_rows: rows of every validation split, drawn likewise; 0 means all.
    holdout: fraction of the training data to validate on instead, for tuning. The
      validation split proper is then called 'dev'.

  Raises:
    ValueError: for a size or fraction out of range, or other than one or two text
      columns.
  """

  task: str = 'rotten_tomatoes'
  path: str = ''
  train: str = ''
  validation: str = ''
  test: str = ''
  text: tuple[str, ...] = ('text',)
  label: str = 'label'
  labels: tuple[str, ...] = ()
  max_length: int = 128
  max_train_rows: int = 0
  max_eval_rows: int = 0
  holdout: float = 0.0

  def __post_init__(self) -> None:
    if len(self.text) not in (1, 2) or isinstance(self.text, str):
      raise ValueError(f'data.text takes one or two column names, got {self.text!r}')
    if self.max_length < MIN_LENGTH:
      raise ValueError(
        f'data.max_length must be at least {MIN_LENGTH} tokens, got {self.max_length}'
      )
    for name in ('max_train_rows', 'max_eval_rows'):
      if getattr(self, name) < 0:
        raise ValueError(f'data.{name} must not be negative, got {getattr(self, name)}')
    if not 0 <= self.holdout < 1:
      raise ValueError(f'data.holdout must be in [0, 1), got {self.holdout}')
