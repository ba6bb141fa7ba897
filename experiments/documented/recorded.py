"""What experiments have recorded, and the tables that their commands print."""

import functools
import importlib
from collections.abc import Sequence
from typing import Any

from experiments.harness import Experiment, called, parse
from experiments.results import Row, matching


def experiment(name: str) -> Experiment:
  """The experiment of a module, 'theory.staleness'."""
  return importlib.import_module(f'experiments.{name}').EXPERIMENT


@functools.cache
def rows(name: str) -> list[Row]:
  """All rows of an experiment."""
  one = experiment(name)
  return one.run().results.rows()


def one_row(name: str, figure: str = '', **details: Any) -> Row:
  """The newest row of a figure with these details.

  Raises:
    LookupError: if there is none.
  """
  like = details | ({'figure': figure} if figure else {})
  found = matching(rows(name), like)
  if not found:
    raise LookupError(f'{name} has no row with {like}')
  return found[-1]


def value(name: str, figure: str, **details: Any) -> Any:
  """The value of that row."""
  return one_row(name, figure, **details)['value']


@functools.cache
def printed(name: str, *flags: str) -> tuple[str, ...]:
  """The tables that a command prints with --table, one after the other."""
  one = experiment(name)
  run = called(one, parse(one, [*flags, '--table']))
  parts = [part[part.find('|') :] for part in one.table(run).split('\n\n')]
  return tuple(part for part in parts if part.startswith('| '))


def table(head: str, tables: Sequence[str]) -> str:
  """The one whose head begins so.

  Raises:
    LookupError: if there is none, or more than one.
  """
  found = [one for one in tables if one.startswith(f'| {head} | ')]
  if len(found) != 1:
    raise LookupError(f'{len(found)} tables begin with {head!r}')
  return found[0]


def cells(head: str, tables: Sequence[str], row: str) -> dict[str, str]:
  """One row of a table by its first cell: column -> cell."""
  titles, _, *lines = table(head, tables).splitlines()
  split = lambda line: [cell.strip() for cell in line.strip('|').split('|')]
  for line in lines:
    if split(line)[0] == row:
      return dict(zip(split(titles), split(line), strict=True))
  raise LookupError(f'the table {head!r} has no row {row!r}')
