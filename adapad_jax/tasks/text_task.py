"""Classification and regression of texts and pairs of texts, from any source."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.models.head import Head
from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.cuts import cut_tables
from adapad_jax.tasks.labels import Labels, check_train, encode_values, majority
from adapad_jax.tasks.predictions import write_table
from adapad_jax.tasks.source import Source
from adapad_jax.tasks.table import Table, filled, texts
from adapad_jax.tasks.task import Baseline, Batch, Outputs, Split, Splits, Task
from adapad_jax.tasks.tokenise import require_tokens, tokenise


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
  tables = cut_tables(source.name, source.tables, source.group, config)
  encode = functools.partial(_encode, source)
  names = source.classes.names if source.classes else None
  train = encode(tables['train'], required=True)
  check_train(train, names, tables['train'].source)
  labels = {'train': train}
  for name, table in tables.items():
    _texts(source, table)
    if name != 'train':
      labels[name] = encode(table, required=True)
  split = functools.partial(_split, source, config, tokenizer)
  makers: dict[str, Callable[[], Split]] = {
    name: functools.partial(split, name, table, labels[name])
    for name, table in tables.items()
  }

  def unlabelled(name: str, read: Callable[[], Table]) -> Split:
    table = filled(read())
    return split(name, table, encode(table, required=False))

  for name, read in source.tables.items():
    if name.startswith('test'):
      makers[name] = functools.partial(unlabelled, name, read)
  classify = source.classes is not None
  return Task(
    name=source.name,
    head=Head('classification', len(names)) if classify else Head('regression'),
    label_names=names,
    splits=Splits(makers),
    loss=cross_entropy if classify else squared_error,
    predict=predict_logits if classify else predict_values,
    evaluate=functools.partial(_evaluate, source),
    metric=source.metric,
    baseline=_baseline(source, labels),
    read=lambda path: unlabelled('input', lambda: source.read(pathlib.Path(path))),
    write_predictions=functools.partial(_write, names),
  )


def _encode(source: Source, table: Table, *, required: bool) -> Labels:
  encode = source.classes.encode if source.classes else encode_values
  return encode(table, source.label, required=required, missing=source.missing)


def _texts(source: Source, table: Table) -> list[list[str]]:
  return [texts(table, column, blank_ok=source.blank_ok) for column in source.text]


def _split(
  source: Source,
  config: DataConfig,
  tokenizer: Any,
  name: str,
  table: Table,
  labels: Labels,
) -> Split:
  text = _texts(source, table)
  second = text[1] if len(text) > 1 else None
  tokens = tokenise(tokenizer, text[0], second, config.max_length)
  require_tokens(tokens, table)
  columns = {
    **tokens.columns,
    'label_B': labels.label_N,
    'weight_B': labels.weight_N,
  }
  return Split(name, columns, tokens.truncated, Origin(table.row_N, labels.fault))


def _score(
  source: Source, labels: Labels, predicted_N: np.ndarray, suffix: str = ''
) -> dict[str, float]:
  found = source.metrics(labels.label_N, predicted_N)
  return {name + suffix: value for name, value in found.items()}


def _evaluate(source: Source, split: Split, outputs: Outputs) -> dict[str, float]:
  """Metrics of a split; those of a mismatched one end in '_mm'.

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
  suffix = '_mm' if split.name.endswith('_mm') else ''
  return _score(source, labels, predicted_N, suffix)


def _baseline(source: Source, labels: dict[str, Labels]) -> Baseline:
  """Scores the constant that fits the training labels best on the validation split."""
  train, held = labels['train'], labels['validation']
  if not len(held.label_N):
    raise ValueError(f'{source.name}: the validation data is empty')
  if source.classes:
    name, constant = 'majority class', majority(train)
  else:
    name, constant = 'mean label', float(train.label_N.mean(dtype=np.float64))
  return Baseline(name, _score(source, held, np.full(len(held.label_N), constant)))


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
