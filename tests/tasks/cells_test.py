"""What a text or a label column may hold."""

import pytest

from adapad_jax.tasks.labels import discover
from adapad_jax.tasks.table import Table, texts


def table(values, **fields):
  return Table({'text': values, 'label': values}, 'a.jsonl', **fields)


@pytest.mark.parametrize('cell', [['a'], {'a': 1}, b'a', ('a',), object()])
def test_what_is_no_text_is_named_by_row_column_and_type(cell):
  rows = table(['x', cell], line_N=[3, 5])
  where = r'a.jsonl: the cell in row 1 \(counted from 0, line 5\) of column'
  kind = type(cell).__name__
  with pytest.raises(ValueError, match=f"{where} 'text' is of type {kind}, "):
    texts(rows, 'text')
  with pytest.raises(ValueError, match=f"{where} 'label' is of type {kind}, "):
    discover(rows, 'label')


@pytest.mark.parametrize('cell', ['a\ud83d', 'a\udc00b', '\ud83dx', 'a\0b', '\0'])
def test_text_that_cannot_be_written_is_named_by_row(cell):
  at = next(i for i, c in enumerate(cell) if c not in 'abx')
  where = r'row 2 \(counted from 0\) of column'
  with pytest.raises(ValueError, match=rf"{where} 'text' .*U\+.* at character {at} "):
    texts(table(['ok 😀', 'b', cell]), 'text')
  with pytest.raises(ValueError, match=rf"{where} 'label' .*U\+.* at character {at} "):
    discover(table(['ok 😀', 'b', cell]), 'label')


def test_halves_in_two_rows_are_no_pair():
  with pytest.raises(ValueError, match='row 0 .*half of a surrogate pair'):
    texts(table(['\ud83d', '\ude00']), 'text')


def test_numbers_are_text_as_they_are_written():
  assert texts(table([1, 2.5, True, 'x']), 'text') == ['1', '2.5', 'True', 'x']
  with pytest.raises(ValueError, match='number in row 1 .* is infinite'):
    texts(table([1, float('inf')]), 'text')
