"""Labelled tables of a task, cut to size as the configuration says."""

from collections.abc import Iterator, Mapping

from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.reader import Read
from adapad_jax.tasks.table import Table, split_by_group, subset


class Cuts(Mapping[str, Table]):
  """Labelled tables by split of the task, each read and cut when it is asked for.

  With `data.holdout`, 'train' and 'validation' are parts of the source's training
  data, and what the source calls 'validation...' is called 'dev...'.

  Args:
    readers: by split of the source; those named 'test...' are left alone.
    group: the column whose values never occur both in training and in held-out
      rows; None where rows stand alone.
    config: what to hold out and how much to keep.
  """

  def __init__(
    self, readers: Mapping[str, Read], group: str | None, config: DataConfig
  ) -> None:
    self._readers, self._group, self._config = readers, group, config
    self._kept: dict[str, Table] = {}
    self._rows: dict[str, int] = {}

  def __getitem__(self, split: str) -> Table:
    if split not in self._kept:
      self._kept |= self._cut(split)
    return self._kept[split]

  def __iter__(self) -> Iterator[str]:
    return iter(self._sources())

  def __len__(self) -> int:
    return sum(1 for _ in self)

  def _sources(self) -> dict[str, str]:
    """The split of the source that each split of the task is of."""
    names = [name for name in self._readers if not name.startswith('test')]
    if not self._config.holdout:
      return {name: name for name in names}
    others = [name for name in names if name != 'train']
    ours = {}
    for name in others:
      called = name.replace('validation', 'dev')
      # One that is called 'dev' by the source too keeps its name.
      ours[f'source_{name}' if called != name and called in others else called] = name
    return {'train': 'train', 'validation': 'train'} | ours

  def rows(self, source: str) -> int | None:
    """Rows of a split of the source before it was cut; None if it was not read."""
    return self._rows.get(source)

  def _cut(self, split: str) -> dict[str, Table]:
    """A table, and with it the other part of what it was cut from."""
    config = self._config
    if not config.holdout:
      found = {split: self._read(split)}
    elif split in ('train', 'validation'):
      train = self._read('train')
      groups = train[self._group] if self._group else range(len(train))
      parts = split_by_group(train, groups, config.holdout)
      found = dict(zip(('train', 'validation'), parts, strict=True))
    else:
      found = {split: self._read(self._sources()[split])}
    most = lambda name: (
      config.max_train_rows if name == 'train' else config.max_eval_rows
    )
    return {name: subset(table, most(name)) for name, table in found.items()}

  def _read(self, source: str) -> Table:
    table = self._readers[source]()
    self._rows[source] = len(table)
    if source == 'train' and not len(table):
      raise ValueError(f'{table.source}: the training data is empty')
    return table


def cut_tables(
  name: str, readers: Mapping[str, Read], group: str | None, config: DataConfig
) -> Cuts:
  """Reads every labelled table, holds a part out if asked to, and draws subsets.

  Args:
    name: the task's name, for messages.
    readers, group, config: see `Cuts`.

  Raises:
    ValueError: if there is nothing to train on or to validate with.
  """
  cuts = Cuts(readers, group, config)
  if 'validation' not in list(cuts):
    raise ValueError(
      f'{name}: no validation data; give data.validation=FILE, or hold a part'
      ' of the training data out with e.g. data.holdout=0.1'
    )
  for split in cuts:
    cuts[split]
  return cuts
