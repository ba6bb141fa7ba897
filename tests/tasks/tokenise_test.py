"""Rows of fixed length against the tokenizer called row by row."""

import copy
import dataclasses
import re

import numpy as np
import pytest

from adapad_jax.tasks.ragged import Ragged
from adapad_jax.tasks.table import Table
from adapad_jax.tasks.tokenise import (
  Tokens,
  check_length,
  check_vocabulary,
  digest,
  pad_rows,
  require_tokens,
  tokenise,
)

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


@dataclasses.dataclass
class Sizes:
  """What `check_vocabulary` reads of a model family's config."""

  vocab_size: int
  pad_token_id: int = 0
  position_offset: int = 0


def test_a_tokenizer_with_tokens_that_the_model_lacks_is_refused(tokenizer):
  size = len(tokenizer.get_vocab())
  check_vocabulary(tokenizer, Sizes(size))
  last = tokenizer.convert_ids_to_tokens(size - 1)
  message = rf'1 of its .* beyond the {size - 1:,} embeddings .*{re.escape(repr(last))}'
  with pytest.raises(ValueError, match=f'{message} with id {size - 1}'):
    check_vocabulary(tokenizer, Sizes(size - 1))


def test_padding_must_agree_where_positions_are_counted_from_it(tokenizer):
  size = len(tokenizer.get_vocab())
  check_vocabulary(tokenizer, Sizes(size, 0, 1))
  check_vocabulary(tokenizer, Sizes(size, 1, 0))  # Masked, so it makes no difference.
  with pytest.raises(
    ValueError, match=r'it pads with id 0, the model .*pad_token_id=1'
  ):
    check_vocabulary(tokenizer, Sizes(size, 1, 2))

  class Unpadded:
    pad_token_id = None
    get_vocab = staticmethod(lambda: {'a': 0})

  check_vocabulary(Unpadded, Sizes(1))
  with pytest.raises(ValueError, match='it has no pad token, the model'):
    check_vocabulary(Unpadded, Sizes(1, 1, 2))


def test_maxima_that_differ_are_both_named(tokenizer):
  with pytest.raises(ValueError, match=r'of its positions 256, of its tokenizer 512'):
    check_length(tokenizer, 300, 256)


def test_a_row_without_tokens_is_named():
  rows = lambda *lengths: Tokens(
    {'mask_BL': Ragged(None, np.zeros(len(lengths), int), np.array(lengths), 2)}, 0
  )
  table = Table({'text': ['a', 'b', 'c']}, 'a.csv', line_N=[2, 3, 4]).take([0, 2])
  with pytest.raises(
    ValueError, match=r'a.csv: the text in row 2 .*line 4\) has no tok'
  ):
    require_tokens(rows(1, 0), table)
  require_tokens(rows(1), table)


def arrays(tokens):
  return {name: rows[:].tolist() for name, rows in tokens.columns.items()}


def test_tokens_of_many_rows_are_kept(tokenizer, tmp_path, monkeypatch):
  plain = tokenise(tokenizer, FIRST, SECOND, 16)
  monkeypatch.setattr('adapad_jax.tasks.tokenise._MANY', 4)
  start = lambda: tokenise(tokenizer, FIRST, SECOND, 16, cache=str(tmp_path))
  first = start()
  monkeypatch.setattr(
    'adapad_jax.tasks.tokenise._write', lambda *_: pytest.fail('tokenised again')
  )
  tokenizer('a', truncation=True, max_length=5)  # Which the tokenizer remembers.
  for found in (first, start()):
    assert arrays(found) == arrays(plain) and found.truncated == plain.truncated == 2
  assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
  'change', ['nothing', 'text', 'pair', 'length', 'tokenizer', 'side']
)
def test_what_tokens_depend_on_makes_new_ones(tokenizer, tmp_path, monkeypatch, change):
  monkeypatch.setattr('adapad_jax.tasks.tokenise._MANY', 1)
  start = lambda first=FIRST, second=SECOND, length=16, by=tokenizer: arrays(
    tokenise(by, first, second, length, cache=str(tmp_path))
  )
  start()
  if change == 'text':
    assert start(first=[*FIRST[:3], 'x'])['ids_BL'] != start()['ids_BL']
  elif change == 'pair':
    assert start(second=None)['ids_BL'] != start()['ids_BL']
  elif change == 'length':
    assert start(length=15)['ids_BL'] != start()['ids_BL']
  elif change == 'tokenizer':
    other = copy.deepcopy(tokenizer)
    other.add_tokens(['naïve'])
    assert start(by=other)['ids_BL'] != start()['ids_BL']
  elif change == 'side':
    other = copy.deepcopy(tokenizer)
    other.truncation_side = 'left'
    assert start(by=other, length=8)['ids_BL'] != start(length=8)['ids_BL']
  else:
    start()
  made = {'nothing': 1, 'side': 3}.get(change, 2)
  assert len(list(tmp_path.iterdir())) == made


def test_digests_tell_texts_apart_by_where_they_end():
  assert digest(['ab', 'c']) != digest(['a', 'bc']) != digest(['abc'])
  assert digest(['a', 'b']) == digest(('a', 'b')) != digest([]) == digest(())
