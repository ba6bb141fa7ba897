"""A tokenizer that is kept between starts, beside the one that transformers loads."""

import json
import shutil

import pytest

from adapad_jax.models import kept_tokenizer, load_tokenizer, sources
from adapad_jax.models.kept_tokenizer import KeptTokenizer, as_json
from adapad_jax.tasks.tokenise import tokenise
from configs.common import MINILM

TEXTS = ['A fine film!', 'ﬁne, ÉCOLE 北京', '[SEP] said\n\n<|im_end|> <pad>', '']
ATTRIBUTES = (
  'cls_token_id',
  'eos_token_id',
  'is_fast',
  'model_input_names',
  'model_max_length',
  'pad_token_id',
  'truncation_side',
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  """An empty cache of the user's."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return tmp_path / 'cache' / 'adapad_jax' / 'tokenizers'


@pytest.fixture
def folder(tmp_path):
  """A copy of MiniLM's folder, with a part of its weights."""
  folder = tmp_path / 'model'
  folder.mkdir()
  for path in sources.resolve(MINILM).iterdir():
    if path.suffix in ('.json', '.txt'):
      shutil.copy(path, folder)
  (folder / 'model.safetensors').write_bytes(bytes(8))
  return folder


@pytest.mark.parametrize('name', [MINILM, 'deberta-v3-tokenizer', 'qwen3-tokenizer'])
def test_it_tokenises_as_the_whole_one_does(name, shared):
  source = sources.find(name if name == MINILM else str(shared / 'models' / name))
  kept_tokenizer(source)
  found, wanted = kept_tokenizer(source), load_tokenizer(source)
  assert isinstance(found, KeptTokenizer)
  for attribute in ATTRIBUTES:
    assert getattr(found, attribute) == getattr(wanted, attribute), attribute
  assert found.get_vocab() == wanted.get_vocab()
  for pair in (False, True):
    count = wanted.num_special_tokens_to_add(pair)
    assert found.num_special_tokens_to_add(pair) == count
  for second in (None, TEXTS[::-1]):
    ours, theirs = (tokenise(one, TEXTS, second, 9) for one in (found, wanted))
    assert ours.columns.keys() == theirs.columns.keys()
    for column, rows in ours.columns.items():
      assert (rows[:] == theirs.columns[column][:]).all()
    assert ours.truncated == theirs.truncated
  assert as_json(found) == as_json(wanted)
  assert 'whole' not in vars(found)  # Nothing of it has come from there.


def test_what_is_not_kept_comes_from_the_whole_one(folder):
  source = sources.find(str(folder))
  kept_tokenizer(source)
  found, wanted = kept_tokenizer(source), load_tokenizer(source)
  assert found(TEXTS)['input_ids'] == wanted(TEXTS)['input_ids']
  assert found.mask_token == '[MASK]' and len(found) == len(wanted)
  with pytest.raises(AttributeError, match='no_such'):
    _ = found.no_such


def test_it_is_kept_for_the_same_files_alone(folder, cache):
  source = sources.find(str(folder))
  kept_tokenizer(source)
  (folder / 'model.safetensors').write_bytes(bytes(16))
  assert isinstance(kept_tokenizer(source), KeptTokenizer)
  settings = json.loads((folder / 'tokenizer_config.json').read_text())
  settings['do_lower_case'] = False
  settings['model_max_length'] = 99
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  for is_kept in (False, True):
    found = kept_tokenizer(source)
    assert isinstance(found, KeptTokenizer) == is_kept
    assert found.model_max_length == 99
    assert '"lowercase":false' in as_json(found)
  assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize('text', ['', '{"tokens": 3}', '[1]'])
def test_what_is_damaged_is_made_again(text, folder, cache):
  source = sources.find(str(folder))
  kept_tokenizer(source)
  (path,) = cache.iterdir()
  path.write_text(text)
  assert not isinstance(kept_tokenizer(source), KeptTokenizer)
  assert isinstance(kept_tokenizer(source), KeptTokenizer)


def test_a_cache_that_cannot_be_written_to_keeps_nothing(folder, cache):
  cache.parent.mkdir(parents=True)
  cache.write_text('a file')
  source = sources.find(str(folder))
  for _ in range(2):
    assert not isinstance(kept_tokenizer(source), KeptTokenizer)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(ValueError, match='holds no tokenizer'):
    kept_tokenizer(sources.find(str(tmp_path)))
