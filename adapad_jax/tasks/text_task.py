"""Classification and regression of texts and pairs of texts, from any source."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.models.head import Head
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.cuts import Cuts, cut_tables
from adapad_jax.tasks.facts import Facts, recalled, source_facts
from adapad_jax.tasks.files import existing
from adapad_jax.tasks.labels import (
  Classes,
  Labels,
  check_train,
  encode_values,
  majority,
)
from adapad_jax.tasks.predictions import write_table
from adapad_jax.tasks.reader import files_of, hub_of
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.table import Table, filled, texts
from adapad_jax.tasks.task import (
  Baseline,
  Batch,
  Outputs,
  Split,
  Splits,
  Task,
  metric_suffix,
  validation_names,
)
from adapad_jax.tasks.tokenise import require_tokens, tokenise

# Rows of a split: where they stand, their one or two texts each, and their labels.
Rows = tuple[Table, list[list[str]], Labels]


@dataclasses.dataclass(frozen=True)
class Origin:
  """Where the rows of a split come from.

  Attributes:
    row_N: number of each row in its source, from 0; None if all rows are there.
    fault: why labels that are there do not count.
  """

  row_N: Sequence[int] | None = None
  fault: str = ''


def cross_entropy(
  model: Any, batch: Batch, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Softmax cross-entropy of every row, in nats, and its weight."""
  logits_BC = model(batch, keys_B).astype(jnp.float32)
  loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BC, batch['label_B'])
  return loss_B * batch['weight_B'], batch['weight_B']


def squared_error(
  model: Any, batch: Batch, keys_B: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
  """Squared error of every row and its weight."""
  value_B = model(batch, keys_B)[:, 0].astype(jnp.float32)
  loss_B = optax.squared_error(value_B, batch['label_B'])
  return loss_B * batch['weight_B'], batch['weight_B']


def predict_logits(model: Any, batch: Batch) -> dict[str, jax.Array]:
  """Class logits in float32."""
  return {'logits_BC': model(batch).astype(jnp.float32)}


def predict_values(model: Any, batch: Batch) -> dict[str, jax.Array]:
  """Regressed values in float32."""
  return {'value_B': model(batch)[:, 0].astype(jnp.float32)}


def predictions(outputs: Outputs) -> np.ndarray:
  """Class numbers or values that the outputs of a split stand for, (N,)."""
  if 'logits_BC' in outputs:
    return np.argmax(outputs['logits_BC'], axis=-1)
  return outputs['value_B']


def build(source: Source, config: DataConfig, tokenizer: Any) -> Task:
  """Makes the task of a source: checks every label now, tokenises on demand.

  Raises:
    ValueError: for text or labels that cannot be trained on, see `labels`.
  """
  cuts = cut_tables(source.name, source.tables, source.group, config)
  names = source.classes.names if source.classes else None
  labels = {'train': _encode(source, cuts['train'])}
  check_train(labels['train'], names, cuts['train'].source)
  text = {}
  for name, table in cuts.items():
    text[name] = _texts(source, table)
    if name != 'train':
      labels[name] = _encode(source, table)
  for path in (path for read in source.tables.values() for path in files_of(read)):
    existing(path)  # A test file, which is not read yet.
  facts = _facts(source, cuts, _baseline(source, labels))
  rows = lambda name: (cuts[name], text[name], labels[name])
  return _task(source, config, tokenizer, facts, rows)


def recall(source: Source, config: DataConfig, tokenizer: Any, facts: Facts) -> Task:
  """Makes the task of a run as its data were: no data is read before it is asked for.

  Data that are asked for must still be what they were, see `facts.recalled`.
  """
  source = dataclasses.replace(
    source,
    tables=recalled(source.tables, facts.sources),
    text=facts.text,
    label=facts.label,
    classes=None if facts.classes is None else Classes(facts.classes, facts.codes),
  )
  cuts = Cuts(source.tables, source.group, config)

  def rows(name: str) -> Rows:
    text = _texts(source, cuts[name])
    return cuts[name], text, _encode(source, cuts[name])

  return _task(source, config, tokenizer, facts, rows)


def _task(
  source: Source,
  config: DataConfig,
  tokenizer: Any,
  facts: Facts,
  rows: Callable[[str], Rows],
) -> Task:
  """The task, whose labelled rows are found by the name of their split."""
  split = functools.partial(_split, config, tokenizer)

  def test(name: str) -> Split:
    table = filled(source.tables[name]())
    labels = _encode(source, table, required=False)
    return split(name, table, _texts(source, table), labels)

  def read(path: str | pathlib.Path, *, labelled: bool = False) -> Split:
    table = filled(source.read(pathlib.Path(path)))
    if not labelled:
      others = {name: x for name, x in table.columns.items() if name != source.label}
      table = dataclasses.replace(table, columns=others)
    labels = _encode(source, table, required=labelled)
    return split('input', table, _texts(source, table), labels)

  makers: Mapping[str, Callable[[], Split]] = {
    name: functools.partial(test, name)
    if name.startswith('test')
    else lambda name=name: split(name, *rows(name))
    for name in facts.splits
  }
  classify = source.classes is not None
  return Task(
    name=source.name,
    head=_head(source),
    label_names=facts.classes,
    splits=Splits(makers),
    loss=cross_entropy if classify else squared_error,
    predict=predict_logits if classify else predict_values,
    evaluate=functools.partial(_evaluate, source),
    metric=source.metric,
    by_row=_rights if classify else lambda *_: {},
    baseline=facts.baseline,
    read=read,
    write_predictions=functools.partial(_write, facts.classes),
    example=functools.partial(dict.fromkeys, facts.text),
    facts=facts,
  )


def _head(source: Source) -> Head:
  if source.classes is None:
    return Head('regression')
  return Head('classification', len(source.classes.names))


def _facts(source: Source, cuts: Cuts, baseline: Baseline) -> Facts:
  """What a run has to know of its data later on."""
  tests = [name for name in source.tables if name.startswith('test')]
  return Facts(
    task=source.name,
    kind=_head(source).kind,
    classes=source.classes.names if source.classes else None,
    codes=dict(source.classes.codes) if source.classes else {},
    text=tuple(source.text),
    label=source.label,
    sources={
      name: source_facts(read, cuts.rows(name)) for name, read in source.tables.items()
    },
    splits={name: len(table) for name, table in cuts.items()}
    | dict.fromkeys(tests, None),
    baseline=baseline,
    hub=hub_of(source.tables.values()),
  )


def _encode(source: Source, table: Table, *, required: bool = True) -> Labels:
  encode = source.classes.encode if source.classes else encode_values
  return encode(table, source.label, required=required, missing=source.missing)


def _texts(source: Source, table: Table) -> list[list[str]]:
  return [texts(table, column, blank_ok=source.blank_ok) for column in source.text]


def _split(
  config: DataConfig,
  tokenizer: Any,
  name: str,
  table: Table,
  text: list[list[str]],
  labels: Labels,
) -> Split:
  second = text[1] if len(text) > 1 else None
  tokens = tokenise(
    tokenizer, text[0], second, config.max_length, cache=config.cache, name=name
  )
  require_tokens(tokens, table)
  columns = {
    **tokens.columns,
    'label_B': labels.label_N,
    'weight_B': labels.weight_N,
  }
  return Split(name, columns, tokens.truncated, Origin(table.row_N, labels.fault))


def _score(
  source: Source, split: str, labels: Labels, predicted_N: np.ndarray
) -> dict[str, float]:
  found = source.metrics(labels.label_N, predicted_N)
  return {name + metric_suffix(split): value for name, value in found.items()}


def _evaluate(source: Source, split: Split, outputs: Outputs) -> dict[str, float]:
  """Metrics of a split; those of MNLI's mismatched one end in '_mm'.

  Raises:
    ValueError: if rows have no label, or there is not one output per row.
  """
  predicted_N = predictions(outputs)
  if len(predicted_N) != len(split):
    raise ValueError(
      f'split {split.name!r} has {len(split)} rows, but there are {len(predicted_N)}'
      ' outputs'
    )
  labels = Labels(split.columns['label_B'], split.columns['weight_B'])
  if split.host is not None and split.host.fault:
    raise ValueError(f'split {split.name!r} cannot be scored: {split.host.fault}')
  missing = int(np.sum(labels.weight_N == 0))
  if missing or not len(split):
    raise ValueError(
      f'split {split.name!r} cannot be scored: {missing} of {len(split)} rows have no'
      ' label; write predictions instead'
    )
  return _score(source, split.name, labels, predicted_N)


def _rights(split: Split, outputs: Outputs) -> dict[str, np.ndarray]:
  """Whether rows are predicted right, 1 or 0, (N,): accuracy is their mean."""
  right_N = predictions(outputs) == split.columns['label_B']
  return {'accuracy' + metric_suffix(split.name): right_N.astype(np.float64)}


def _baseline(source: Source, labels: dict[str, Labels]) -> Baseline:
  """Scores the constant that fits the training labels best on validation data."""
  train = labels['train']
  if source.classes:
    name, constant = 'majority class', majority(train)
  else:
    name, constant = 'mean label', float(train.label_N.mean(dtype=np.float64))
  metrics: dict[str, float] = {}
  for split in validation_names(labels):
    held = labels[split]
    if not len(held.label_N):
      raise ValueError(f'{source.name}: the {split} data is empty')
    constant_N = np.full(len(held.label_N), constant)
    metrics |= _score(source, split, held, constant_N)
  return Baseline(name, metrics)


def _write(
  names: tuple[str, ...] | None,
  split: Split,
  outputs: Outputs,
  path: str | pathlib.Path,
) -> None:
  """Writes class names and their probabilities, or values.

  Raises:
    ValueError: if an output is not a finite number.
  """
  right = [np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in outputs.values()]
  bad_N = ~np.all(right, axis=0)
  if bad_N.any():
    raise ValueError(
      f'the model gives no finite number for {bad_N.sum()} of {len(bad_N)} rows of'
      f' {split.name!r}, such as row {np.argmax(bad_N)} (counted from 0); nothing was'
      ' written'
    )
  index = None if split.host is None else split.host.row_N
  predicted_N = predictions(outputs)
  if names is None:
    write_table(path, {'prediction': [float(value) for value in predicted_N]}, index)
    return
  logits_NC = np.asarray(outputs['logits_BC'], np.float64)
  weights_NC = np.exp(logits_NC - logits_NC.max(axis=-1, keepdims=True))
  shares_NC = weights_NC / weights_NC.sum(axis=-1, keepdims=True)
  probability = [round(float(p), 6) for p in shares_NC.max(axis=-1)]
  chosen = [names[i] for i in predicted_N]
  write_table(path, {'prediction': chosen, 'probability': probability}, index)
