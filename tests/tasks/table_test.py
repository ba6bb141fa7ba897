"""Columns, null texts, subsets and cuts by group."""

import collections

import pytest

from adapad_jax.tasks.table import Table, split_by_group, subset, texts


def test_missing_column_lists_those_present():
  table = Table({'sentence': ['a'], 'label': [1]}, 'file.csv')
  with pytest.raises(ValueError, match=r"no column 'sentense'; it has \['sentence', "):
    table['sentense']
  with pytest.raises(ValueError, match="did you mean 'sentence'"):
    table['sentense']


@pytest.mark.parametrize('null', [None, float('nan'), '', '  '])
def test_null_text_names_rows(null):
  table = Table({'text': ['a', null, 'b', null]}, 'file.csv')
  with pytest.raises(ValueError, match=r"'text' is empty in 2 of 4 rows \(row 1, 3,"):
    texts(table, 'text')


def test_official_data_may_have_empty_text():
  assert texts(Table({'text': ['a', '']}, 'x'), 'text', blank_ok=True) == ['a', '']
  with pytest.raises(ValueError, match='is empty in 1 of 2'):
    texts(Table({'text': ['a', None]}, 'x'), 'text', blank_ok=True)


def test_subset_keeps_order_and_is_not_the_head():
  table = Table({'n': list(range(1000))}, 'x')
  some = subset(table, 100)['n']
  assert len(set(some)) == 100 and some == sorted(some) and max(some) > 500
  assert some == subset(table, 100)['n']
  assert len(subset(table, 0)) == len(subset(table, 5000)) == 1000


def test_split_by_group_is_disjoint_complete_and_about_the_fraction():
  groups = [f'film {i % 37}' for i in range(1000)]
  table = Table({'n': list(range(1000)), 'film': groups}, 'x')
  train, held = split_by_group(table, groups, 0.2)
  assert not set(train['film']) & set(held['film'])
  assert sorted([*train['n'], *held['n']]) == list(range(1000))
  largest = max(collections.Counter(groups).values())
  assert 200 <= len(held) < 200 + largest
  assert split_by_group(table, groups, 0.2)[1]['n'] == held['n']


def test_split_by_group_refuses_an_empty_side():
  table = Table({'n': [1, 2, 3]}, 'x')
  with pytest.raises(ValueError, match='leaves 0 rows to train on and 3'):
    split_by_group(table, ['one'] * 3, 0.5)


def test_rows_keep_their_numbers_and_lines_when_some_are_taken():
  table = Table({'text': list('abcdef')}, 'a.csv', line_N=[2, 3, 5, 6, 7, 9])
  assert table.place(2) == 'row 2 (counted from 0, line 5)'
  some = table.take([1, 3, 5]).take([1, 2])
  assert some['text'] == ['d', 'f']
  assert some.place(1) == 'row 5 (counted from 0, line 9)'
  bare = Table({'text': list('abc')}, 'x').take([2])
  assert bare.place(0) == 'row 2 (counted from 0)'


def test_null_texts_of_some_rows_have_the_numbers_of_the_file():
  table = Table({'text': ['a', 'b', '', ' ']}, 'a.csv', line_N=[2, 3, 6, 7])
  with pytest.raises(ValueError, match=r'2 of 3 rows \(row 2, 3, .*; line 6, 7\)'):
    texts(table.take([1, 2, 3]), 'text')
