"""Rows of fixed length against the tokenizer called row by row."""

import numpy as np
import pytest

from adapad_jax.tasks.tokenise import check_length, pad_rows, tokenise

FIRST = ['a fine film', 'x ' * 50, 'unicode: naïve café 東京', '']
SECOND = ['y', 'short', 'z ' * 60, 'only the second']


def by_row(tokenizer, first, second, length):
  for one, two in zip(first, second, strict=True):
    yield tokenizer(one, two, truncation=True, max_length=length, padding='max_length')


@pytest.mark.parametrize('pair', [False, True])
def test_equals_the_tokenizer_row_by_row(tokenizer, pair, monkeypatch):
  monkeypatch.setattr('adapad_jax.tasks.tokenise._CHUNK', 3)
  second = SECOND if pair else None
  tokens = tokenise(tokenizer, FIRST, second, 16)
  rows = list(by_row(tokenizer, FIRST, second or [None] * 4, 16))
  for ours, theirs in [
    ('ids_BL', 'input_ids'),
    ('mask_BL', 'attention_mask'),
    ('types_BL', 'token_type_ids'),
  ]:
    np.testing.assert_array_equal(
      tokens.columns[ours], [row[theirs] for row in rows], ours
    )
    assert tokens.columns[ours].dtype == np.int32
  assert tokens.truncated == (2 if pair else 1)


def test_no_rows(tokenizer):
  assert tokenise(tokenizer, [], None, 16).columns['ids_BL'].shape == (0, 16)


def test_pad_rows():
  np.testing.assert_array_equal(
    pad_rows([[1, 2], [], [3]], 3, 9), [[1, 2, 9], [9, 9, 9], [3, 9, 9]]
  )


def test_pair_gets_a_newline_where_the_tokenizer_has_no_separator(shared):
  transformers = pytest.importorskip('transformers')
  plain = transformers.AutoTokenizer.from_pretrained(shared / 'models/qwen3-tokenizer')
  tokens = tokenise(plain, ['Is it so?'], ['It is.'], 12)
  ids = tokens.columns['ids_BL'][0][tokens.columns['mask_BL'][0] == 1]
  assert plain.decode(ids) == 'Is it so?\nIt is.'
  assert 'types_BL' not in tokens.columns


def test_length_above_the_maximum_is_refused_with_the_number(tokenizer):
  with pytest.raises(ValueError, match=r'max_length=600 is above .* 512 tokens'):
    check_length(tokenizer, 600)
  with pytest.raises(ValueError, match=r'max_length=300 is above .* 256 tokens'):
    check_length(tokenizer, 300, 256)
  check_length(tokenizer, 512, 1024)


def test_slow_tokenizer_is_refused():
  class Slow:
    is_fast = False

  with pytest.raises(ValueError, match='Slow is a slow tokenizer'):
    check_length(Slow(), 16)
