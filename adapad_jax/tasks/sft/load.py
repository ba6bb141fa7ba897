"""The task 'sft': instruction tuning of a decoder on rows of one's own."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from adapad_jax.models.head import Head
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.predictions import write_table
from adapad_jax.tasks.sft import shown
from adapad_jax.tasks.sft.encode import Encoder
from adapad_jax.tasks.sft.layouts import Columns
from adapad_jax.tasks.sft.loss import predict_tokens, token_loss
from adapad_jax.tasks.sft.reading import Rows, read_all, splits_of
from adapad_jax.tasks.sft.rows import (
  Documents,
  columns_of,
  documents,
  drawn,
  frequencies,
  held_out,
  packed_columns,
  weighted,
)
from adapad_jax.tasks.sft.store import Store
from adapad_jax.tasks.sft.template import load_template
from adapad_jax.tasks.sft.tokenise import (
  Tokenisation,
  digest_of_tokenizer,
  tokenise_all,
)
from adapad_jax.tasks.task import Baseline, Outputs, Split, Splits, Task

TASKS = ('sft',)
# Of the training rows, where there is neither validation data nor data.holdout.
_HELD_OUT = 0.05


@dataclasses.dataclass(frozen=True)
class Source:
  """Everything that makes splits.

  Attributes:
    config: as given.
    tokenizer: of the model.
    encoder, tokenisation: how rows become tokens.
    files: rows by split.
  """

  config: DataConfig
  tokenizer: Any
  encoder: Encoder
  tokenisation: Tokenisation
  files: dict[str, Sequence[Rows]]

  def store(self, files: Sequence[Rows], name: str) -> Store:
    """Tokens of some files."""
    cache = self.config.chat.cache
    return tokenise_all(files, self.tokenisation, self.encoder, cache, name)

  def documents(self, files: Sequence[Rows], name: str) -> Documents:
    """All rows of files that fit."""
    store = self.store(files, name)
    return self.fitting(store, np.arange(len(store)), files)

  def fitting(self, store: Store, index_N: np.ndarray, files: Any) -> Documents:
    """Some rows of a store, as far as they fit."""
    named = ', '.join(rows.source for rows in files)
    too_long = self.config.chat.too_long
    return documents(store, index_N, self.config.max_length, too_long, named)

  @property
  def fill(self) -> int:
    """What padding holds."""
    return self.tokenizer.pad_token_id or 0


def build(config: DataConfig, tokenizer: Any) -> Task:
  """Makes the task: checks and tokenises what is trained and validated on now.

  Raises:
    ValueError: for data that is missing or cannot be used.
  """
  encoder = Encoder.of(tokenizer)
  columns = Columns(
    config.prompt, config.completion, config.messages, config.chat.strings
  )
  tokenisation = Tokenisation(
    template=load_template(config.chat.template, tokenizer),
    loss=config.chat.loss,
    columns=columns,
    drop=config.bad_rows == 'drop',
    tokenizer=digest_of_tokenizer(encoder),
  )
  path = f'{config.path}:{config.subset}' if config.subset else config.path
  files = splits_of(path, config.train, config.validation, config.test)
  source = Source(config, tokenizer, encoder, tokenisation, files)
  found = _train_and_validation(source)
  task = Task(
    name=config.task,
    head=Head('lm'),
    label_names=None,
    splits=Splits(_makers(source, found)),
    loss=token_loss,
    predict=predict_tokens,
    evaluate=evaluate,
    metric='loss',
    lower_is_better=True,
    baseline=_baseline(found['train'], found['validation'], _vocabulary(tokenizer)),
    read=lambda path, labelled=False: _one_each(
      source, 'input', source.documents(read_all(str(path)), 'input')
    ),
    write_predictions=_write,
    suffix='.jsonl',
    about=lambda: shown.describe(source, found),
  )
  return dataclasses.replace(task, pack=lambda: _packed(source, found, task))


def _train_and_validation(source: Source) -> dict[str, Documents]:
  """Rows to train on and to validate on, the latter held out where there are none."""
  config, files = source.config, source.files
  train = files['train']
  store = source.store(train, 'train')
  share = config.holdout or (0.0 if 'validation' in files else _HELD_OUT)
  index_N, held_N = np.arange(len(store)), None
  if share:
    index_N, held_N = held_out(len(store), share)
  index_N = weighted(store, index_N, config.weights, len(train))
  found = {'train': source.fitting(store, drawn(index_N, config.max_train_rows), train)}
  if held_N is not None:
    held_N = drawn(held_N, config.max_eval_rows)
    found['validation'] = source.fitting(store, held_N, train)
    return found
  validation = files['validation']
  store = source.store(validation, 'validation')
  index_N = drawn(np.arange(len(store)), config.max_eval_rows)
  found['validation'] = source.fitting(store, index_N, validation)
  return found


def _makers(
  source: Source, found: dict[str, Documents]
) -> dict[str, Callable[[], Split]]:
  """Makers of all splits; those that are neither trained nor validated on are lazy."""
  makers: dict[str, Callable[[], Split]] = {
    name: functools.partial(_one_each, source, name, rows)
    for name, rows in found.items()
  }
  for name, files in source.files.items():
    free = name if name not in found else 'dev' if name == 'validation' else ''
    if free and not (name == 'validation' and not source.config.holdout):
      makers[free] = lambda free=free, files=files: _one_each(
        source, free, source.documents(files, free)
      )
  return makers


def _one_each(source: Source, name: str, rows: Documents) -> Split:
  """A split with one document a row."""
  return Split(name, columns_of(rows, source.fill), rows.counts.cut, host=rows)


def _packed(source: Source, found: dict[str, Documents], task: Task) -> Task:
  """The same task, whose training rows hold several documents."""
  rows = found['train']

  def train() -> Split:
    columns = packed_columns(rows, source.config.max_length, source.fill)
    return Split('train', columns, rows.counts.cut, host=rows)

  others = {n: (lambda n=n: task.splits[n]) for n in task.splits if n != 'train'}
  splits = Splits({'train': train, **others})
  before = task.splits['train']
  about = lambda: [
    *task.about(),
    shown.describe_packing(before.columns, splits['train'].columns),
  ]
  return dataclasses.replace(task, splits=splits, about=about, pack=None)


def evaluate(split: Split, outputs: Outputs) -> dict[str, float]:
  """Loss in nats a learned token, its perplexity, and the share of right tokens.

  Means are over all learned tokens of the split, not over rows.

  Raises:
    ValueError: if there is not one output per row.
  """
  _check_rows(split, outputs)
  tokens = float(np.sum(outputs['tokens_B'], dtype=np.float64))
  mean = lambda name: float(np.sum(outputs[name], dtype=np.float64)) / tokens
  return _metrics(mean('loss_B'), mean('right_B'))


def _metrics(loss: float, accuracy: float) -> dict[str, float]:
  largest = math.log(np.finfo(np.float64).max)
  perplexity = math.exp(min(loss, largest)) if math.isfinite(loss) else math.nan
  return {'loss': loss, 'perplexity': perplexity, 'token_accuracy': accuracy}


def _check_rows(split: Split, outputs: Outputs) -> None:
  rows = len(outputs['loss_B'])
  if rows != len(split):
    raise ValueError(
      f'split {split.name!r} has {len(split)} rows, but there are {rows} outputs'
    )


def _vocabulary(tokenizer: Any) -> int:
  """Ids that tokens may have; some tokenizers leave a few of them out."""
  return max(tokenizer.get_vocab().values()) + 1


def _baseline(train: Documents, held: Documents, vocabulary: int) -> Baseline:
  """Scores the frequencies of the tokens that the training rows learn."""
  said_V, asked_V = (frequencies(rows, vocabulary) for rows in (train, held))
  # One more of each, so that a token that was never seen can be.
  log_V = np.log(said_V + 1) - math.log(said_V.sum() + vocabulary)
  share_V = asked_V / asked_V.sum()
  loss, accuracy = -float(share_V @ log_V), float(share_V[np.argmax(said_V)])
  return Baseline('token frequencies', _metrics(loss, accuracy))


def _write(split: Split, outputs: Outputs, path: str | pathlib.Path) -> None:
  """Writes the loss of every row, where it came from, and its share of right tokens."""
  _check_rows(split, outputs)
  rows: Documents = split.host
  loss_N, tokens_N = outputs['loss_B'].tolist(), outputs['tokens_B'].tolist()
  right_N = outputs['right_B'].tolist()
  write_table(
    path,
    {
      'prediction': [x / n for x, n in zip(loss_N, tokens_N, strict=True)],
      'tokens': [int(n) for n in tokens_N],
      'token_accuracy': [x / n for x, n in zip(right_N, tokens_N, strict=True)],
      'row': rows.store.row_N[rows.index_N].tolist(),
    },
  )
