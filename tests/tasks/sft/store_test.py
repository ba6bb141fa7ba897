"""Tokenised conversations: kept in files, made once, the same on every path."""

import json

import numpy as np
import pytest

from adapad_jax.tasks import DataConfig, load_task
from adapad_jax.tasks import store as stores
from adapad_jax.tasks.config import ChatConfig
from adapad_jax.tasks.sft import tokenise
from adapad_jax.tasks.sft.store import KINDS
from tests.tasks.sft import toy

ROWS = [{'question': 'Hi', 'answer': 'Yes'}, {'question': 'No?', 'answer': 'Hello'}] * 4


@pytest.fixture(scope='module')
def tokens():
  return toy.tokenizer(toy.CHATML)


def make(tmp_path, tokens, rows=ROWS, *, name='train.jsonl', chat=None, **more):
  path = tmp_path / name
  if not path.exists():
    toy.write_rows(path, rows)
  config = DataConfig(
    task='sft',
    train=str(path),
    max_length=64,
    cache=str(tmp_path / 'cache'),
    chat=ChatConfig(**chat or {}),
    **more,
  )
  return load_task(config, tokens)


def ids_of(task, split='train'):
  columns = task.splits[split].columns
  return [
    row[:n].tolist()
    for row, n in zip(columns['ids_BL'][:], columns['mask_BL'].lengths_N, strict=True)
  ]


def test_tokens_equal_those_of_one_row_at_a_time(tmp_path, tokens):
  task = make(tmp_path, tokens, holdout=0.25)
  everything = sorted(ids_of(task) + ids_of(task, 'validation'))
  one_by_one = sorted(
    tokens.apply_chat_template(
      [{'role': 'user', 'content': row['question']},
       {'role': 'assistant', 'content': row['answer']}]
    )['input_ids']
    for row in ROWS
  )  # fmt: skip
  assert everything == one_by_one


def test_a_second_start_reads_what_the_first_has_made(tmp_path, tokens, monkeypatch):
  first = ids_of(make(tmp_path, tokens))
  monkeypatch.setattr(tokenise, 'mark', lambda *_: pytest.fail('tokenised again'))
  task = make(tmp_path, tokens)
  assert ids_of(task) == first
  assert isinstance(task.splits['train'].host.store.ids, np.memmap)


@pytest.mark.parametrize(
  'change', ['rows', 'template', 'loss', 'tokenizer', 'bad_rows', 'nothing']
)
def test_what_tokens_depend_on_makes_new_ones(tmp_path, tokens, change):
  make(tmp_path, tokens)
  folders = lambda: len(list((tmp_path / 'cache').iterdir()))
  assert folders() == 1
  if change == 'rows':
    toy.write_rows(tmp_path / 'train.jsonl', ROWS[:6])
  template = toy.LLAMA3 if change == 'template' else toy.CHATML
  changed = toy.tokenizer(template, gpt2=change == 'tokenizer')
  make(
    tmp_path, changed, chat={'loss': 'all'} if change == 'loss' else {},
    bad_rows='drop' if change == 'bad_rows' else 'refuse',
  )  # fmt: skip
  assert folders() == (1 if change == 'nothing' else 2)


def test_cutting_and_choosing_rows_needs_no_new_tokens(tmp_path, tokens):
  make(tmp_path, tokens)
  make(tmp_path, tokens, holdout=0.5, max_train_rows=2, chat={'too_long': 'drop'})
  assert len(list((tmp_path / 'cache').iterdir())) == 1


@pytest.mark.parametrize('harm', ['short', 'no list', 'gone'])
def test_a_broken_store_is_made_again(tmp_path, tokens, harm):
  first = ids_of(make(tmp_path, tokens))
  (folder,) = (tmp_path / 'cache').iterdir()
  if harm == 'short':
    (folder / 'ids.bin').write_bytes((folder / 'ids.bin').read_bytes()[:-4])
  elif harm == 'no list':
    (folder / 'about.json').write_text('{"rows": ')
  else:
    (folder / 'learned.bin').unlink()
  assert stores.open_kept(folder, KINDS) is None
  assert ids_of(make(tmp_path, tokens)) == first


def test_bad_rows_are_named_or_counted(tmp_path, tokens):
  rows = [*ROWS, {'question': 'Q'}, {'question': 'Q', 'answer': ' '}]
  rows += [{'question': '\ud800', 'answer': 'A'}, {'question': 'Q', 'answer': None}]
  path = toy.write_rows(tmp_path / 'train.jsonl', rows)
  with pytest.raises(ValueError, match=rf'{path}, line 9: .*missing.*bad_rows=drop'):
    make(tmp_path, tokens)
  task = make(tmp_path, tokens, bad_rows='drop')
  assert len(task.splits['train']) + len(task.splits['validation']) == len(ROWS)
  about = '\n'.join(task.about())
  assert about.count('4 dropped (4 bad)') == 1, 'not again of the rows held out'
  assert f'{path}, line 10' in about and 'left out of the train files' in about
  assert (
    f'{path}, line 11: the text' in about
    and f"{path}, line 12: ['answer'] is null" in about
  )


def test_bad_rows_of_a_file_to_validate_on_are_told_as_its_own(tmp_path, tokens):
  more = toy.write_rows(tmp_path / 'more.jsonl', [*ROWS[:2], {'question': 'Q'}])
  task = make(tmp_path, tokens, bad_rows='drop', validation=str(more))
  about = '\n'.join(task.about())
  assert 'validation: 2 rows' in about and about.count('1 dropped (1 bad)') == 1
  assert 'left out of the validation files' in about and f'{more}, line 3' in about


def test_all_rows_bad_and_no_rows(tmp_path, tokens):
  with pytest.raises(ValueError, match='no rows: all 1 are bad; .*line 1'):
    make(tmp_path, tokens, [{'question': 'Q', 'answer': ''}], bad_rows='drop')
  with pytest.raises(ValueError, match=r'empty.jsonl has no rows'):
    make(tmp_path, tokens, [], name='empty.jsonl')


def test_more_rows_than_a_chunk_keep_their_order(tmp_path, tokens, monkeypatch):
  monkeypatch.setattr(tokenise, '_CHUNK', 3)
  rows = [{'question': f'{i}', 'answer': 'Yes'} for i in range(40)]
  task = make(tmp_path, tokens, rows, holdout=0.1)
  store = task.splits['train'].host.store
  assert store.row_N.tolist() == list(range(1, 41))
  texts = [tokens.decode(store.ids[s : s + n]) for s, n in
           zip(store.start_N, store.length_N, strict=True)]  # fmt: skip
  assert [json.loads(t.split('user\n')[1].split('<')[0]) for t in texts] == list(
    range(40)
  )
