"""The task 'sft': instruction tuning of a decoder on rows of one's own."""

import dataclasses
import functools
import math
import pathlib
from typing import Any

import numpy as np

from adapad_jax.models.head import Head
from adapad_jax.origins import file_origin
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.facts import Facts, SourceFacts
from adapad_jax.tasks.files import existing
from adapad_jax.tasks.predictions import write_table
from adapad_jax.tasks.sft import generated, shown
from adapad_jax.tasks.sft.loss import predict_tokens, token_loss
from adapad_jax.tasks.sft.reading import Rows, read_all
from adapad_jax.tasks.sft.rows import (
  Documents,
  columns_of,
  frequencies,
  packed_columns,
)
from adapad_jax.tasks.sft.source import TEMPLATE, Source
from adapad_jax.tasks.sft.template import template_file
from adapad_jax.tasks.task import Baseline, Outputs, Split, Splits, Task

TASKS = ('sft',)


def build(
  config: DataConfig,
  tokenizer: Any,
  most_positions: int | None = None,
  facts: Facts | None = None,
) -> Task:
  """Makes the task: checks and tokenises what is trained and validated on now.

  With the facts of a run, nothing is read before it is asked for.

  Args:
    config: the data.
    tokenizer: of the model.
    most_positions: tokens that the model takes; None where that is not known.
    facts: of a run that is opened again.

  Raises:
    ValueError: for data that is missing or cannot be used.
  """
  source = Source.of(config, tokenizer, facts)
  if facts is None:
    facts = _facts(source)
  splits = {name: functools.partial(_one_each, source, name) for name in facts.splits}
  asked = generated.make_generated(source, tuple(splits), most_positions)

  def read(path: str | pathlib.Path, *, labelled: bool = False) -> Split:
    return _split(source, 'input', source.read(read_all(str(path))))

  task = Task(
    name=config.task,
    head=Head('lm'),
    label_names=None,
    splits=Splits(splits),
    loss=token_loss,
    predict=predict_tokens,
    evaluate=evaluate,
    metric='loss',
    lower_is_better=True,
    baseline=facts.baseline,
    read=read,
    write_predictions=_write,
    example=source.chat.columns.example,
    facts=facts,
    about=lambda: [
      *shown.describe(source),
      *([generated.describe(asked, source)] if asked else []),
    ],
    generated=asked,
    chat=source.chat,
  )
  return dataclasses.replace(task, pack=lambda: _packed(source, task))


def _facts(source: Source) -> Facts:
  """What a run has to know of its data later on; other splits must be there."""
  train, held = source.documents('train'), source.documents('validation')
  read = {
    source.origin(name): source.documents(name) for name in ('train', 'validation')
  }
  sources = {
    name: _source_facts(files, read[name].store.rows_read if name in read else None)
    for name, files in source.files.items()
  }
  if (path := template_file(source.config.chat.template)) is not None:
    sources[TEMPLATE] = SourceFacts((file_origin(path),), None)
  every = [rows for files in source.files.values() for rows in files]
  vocabulary = _vocabulary(source.chat.tokenizer)
  return Facts(
    task=source.config.task,
    kind='lm',
    classes=None,
    codes={},
    text=(),
    label='',
    sources=sources,
    splits=dict.fromkeys(source.names) | {'train': len(train), 'validation': len(held)},
    baseline=_baseline(train, held, vocabulary),
    hub=next((rows.hub for rows in every if rows.hub), None),
  )


def _source_facts(files: 'list[Rows]', count: int | None) -> SourceFacts:
  paths = [path for rows in files for path in rows.files]
  return SourceFacts(tuple(file_origin(existing(path)) for path in paths), count)


def _one_each(source: Source, name: str) -> Split:
  """A split with one document a row."""
  return _split(source, name, source.documents(name))


def _split(source: Source, name: str, rows: Documents) -> Split:
  return Split(name, columns_of(rows, source.chat.fill), rows.counts.cut, host=rows)


def _packed(source: Source, task: Task) -> Task:
  """The same task, whose training rows hold several documents."""

  def train() -> Split:
    rows = source.documents('train')
    columns = packed_columns(rows, source.config.max_length, source.chat.fill)
    return Split('train', columns, rows.counts.cut, host=rows)

  others = {n: (lambda n=n: task.splits[n]) for n in task.splits if n != 'train'}
  splits = Splits({'train': train, **others})
  about = lambda: [
    *task.about(),
    shown.describe_packing(task.splits['train'].columns, splits['train'].columns),
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
