"""What a user sees of each fault of the hub, for a model, data and an adapter.

The table in docs/hub.md is what these tests find.
"""

import logging
import pathlib
import re
import time

import huggingface_hub.constants as constants
import pytest

from adapad_jax import hub as client
from adapad_jax import models
from adapad_jax.interchange import find_adapter
from adapad_jax.tasks.hub import files_of, hub_tables
from tests.hub import repositories
from tests.hub.client import connected

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'hub.md'
MODEL, DATA, ADAPTER = 'someuser/tiny', 'someuser/opinions', 'someuser/adapter'
ANY, BODY = '', r'GET .*/(resolve|store)/'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  """What each repository holds."""
  folder = tmp_path_factory.mktemp('model')
  return {
    ('model', MODEL): repositories.with_weights(repositories.bert(), folder),
    ('dataset', DATA): repositories.opinions(24),
    ('model', ADAPTER): {
      'adapter_config.json': '{}',
      'adapter_model.safetensors': b'x' * 5000,
      'README.md': '# An adapter\n',
    },
  }


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
  with connected(tmp_path, monkeypatch) as hub:
    for key, one in files.items():
      hub.put(*key, one)
    yield hub


def fetch_model():
  found = models.find(MODEL)
  found.to_download()
  found.fetch_weights()
  assert (found.folder / 'model.safetensors').stat().st_size > 1000
  return found.commit


def fetch_data():
  tables = hub_tables(client.parse(DATA, 'dataset'), '', 'give a folder')
  assert len(tables['train']()) == 24
  return tables['train'].hub


def fetch_adapter():
  return find_adapter(ADAPTER).commit


WHAT = {
  'model': (('model', MODEL), fetch_model),
  'data': (('dataset', DATA), fetch_data),
  'adapter': (('model', ADAPTER), fetch_adapter),
}


def fail(where, kind, **details):
  return lambda hub, repository, monkeypatch: hub.fail(where, kind, **details)


def token(value):
  return lambda hub, repository, patch: patch.setenv('HF_TOKEN', value)


def missing(hub, repository, monkeypatch):
  hub.repositories.clear()


def private(hub, repository, monkeypatch):
  repository.readers = {'hf_owner'}


def gated(hub, repository, monkeypatch):
  repository.readers, repository.gated = {'hf_owner'}, True


def both(*steps):
  def run(*args):
    for step in steps:
      step(*args)

  return run


# By the first column of the table.
FAULTS = {
  'the connection is reset': fail(ANY, 'reset'),
  'the connection is closed': fail(ANY, 'close'),
  'a body is cut by a reset': fail(BODY, 'cut', size=10),
  'a body is cut by a close': fail(BODY, 'stop'),
  'no answer': fail(ANY, 'hang'),
  '401: not there, or private, no token': missing,
  '401: private, no token': private,
  '401: wrong token': token('hf_wrong'),
  '401: gated, no token': gated,
  '403: gated, the token has no access': both(gated, token('hf_stranger')),
  '403: other': fail(ANY, 'status', status=403),
  '404: not there, or private, with a token': both(private, token('hf_stranger')),
  '404: other': fail(ANY, 'status', status=404),
  '429: a short Retry-After': fail(
    ANY, 'status', status=429, headers={'Retry-After': '7'}
  ),
  '429: a long Retry-After': fail(
    ANY, 'status', status=429, headers={'Retry-After': '900'}
  ),
  '500': fail(ANY, 'status', status=500),
  '503': fail(ANY, 'status', status=503),
}


def documented():
  """The table: reason by fault."""
  rows = re.findall(r'^\| (.+?) \| (.+?) \|$', PAGE.read_text(), re.M)
  return {fault: reason.replace('`', '') for fault, reason in rows}


def plain(message, hub):
  """A message without what differs from one start of the test to the next."""
  message = message.replace(hub.url, 'https://huggingface.co').replace('`', '')
  for name in (MODEL, DATA, ADAPTER):
    message = message.replace(f'/datasets/{name}', '/ID').replace(f'/{name}', '/ID')
  return re.sub(r'status \d+ on purpose', 'what the hub says', message)


@pytest.mark.parametrize('what', WHAT)
@pytest.mark.parametrize('fault', FAULTS)
def test_a_cold_start_says_in_one_line_what_is_wrong(fault, what, hub, monkeypatch):
  key, fetch = WHAT[what]
  FAULTS[fault](hub, hub.repositories[key], monkeypatch)
  with pytest.raises(ValueError) as caught:
    fetch()
  message = plain(str(caught.value), hub)
  assert '\n' not in message and key[1].split('/')[1] in message
  assert documented()[fault] in message


@pytest.mark.parametrize('what', WHAT)
@pytest.mark.parametrize('fault', FAULTS)
def test_a_warm_start_takes_the_cache_and_warns(
  fault, what, hub, files, monkeypatch, caplog
):
  key, fetch = WHAT[what]
  before = fetch()
  # What is new on the hub would be fetched if it could be.
  hub.put(*key, changed(files[key]))
  FAULTS[fault](hub, hub.repositories[key], monkeypatch)
  with caplog.at_level(logging.WARNING, 'adapad_jax'):
    after = fetch()
  assert after == before
  (record,) = [r for r in caplog.records if r.name.startswith('adapad_jax')]
  message = plain(record.getMessage(), hub)
  assert documented()[fault] in message
  assert message.endswith(f'using commit {before.commit[:12]} from the local cache')


@pytest.mark.parametrize('what', WHAT)
@pytest.mark.parametrize('kind', ['reset', 'close', 'hang', 'cut', 'stop', 'status'])
def test_what_passes_is_tried_again_without_a_word(kind, what, hub, caplog):
  where = BODY if kind in ('cut', 'stop') else ANY
  hub.fail(where, kind, size=1, times=2)
  with caplog.at_level(logging.WARNING, 'adapad_jax'):
    WHAT[what][1]()
  assert hub.faults[0].times == 0  # It did happen.
  assert not [r for r in caplog.records if r.name.startswith('adapad_jax')]


def test_a_hub_that_asks_for_a_pause_gets_it(hub, monkeypatch):
  slept = []
  monkeypatch.setattr(time, 'sleep', slept.append)
  wait = {'Retry-After': '7'}
  hub.fail('GET /api/models/', 'status', status=429, headers=wait, times=2)
  fetch_model()
  assert slept == [7.0, 7.0]


@pytest.mark.parametrize('what', WHAT)
def test_what_is_half_fetched_is_not_taken_for_whole(what, hub, files, monkeypatch):
  # The last file of each: weights, the second split, the tensors.
  last = {'model': '/store/', 'data': 'train.*parquet', 'adapter': '/store/'}[what]
  if what == 'data':
    hub.fail(f'HEAD .*{last}', 'status')
  else:
    hub.fail(f'GET .*{last}', 'cut', size=10)
  with pytest.raises(ValueError):
    WHAT[what][1]()
  hub.faults = []
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  with pytest.raises(ValueError, match='HF_HUB_OFFLINE is set; commit .* lacks '):
    WHAT[what][1]()
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
  whole = WHAT[what][1]()
  monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
  assert WHAT[what][1]() == whole


def test_a_damaged_file_names_its_data_set_and_what_to_do(hub):
  files = repositories.opinions(24)
  name = next(n for n in files if 'train' in n)
  hub.put('dataset', DATA, files | {name: b'PAR1' + bytes(200) + b'PAR1'})
  with pytest.raises(ValueError) as caught:
    fetch_data()
  message = str(caught.value)
  assert message.startswith(f'the data files of {DATA} cannot be read (')
  assert 'to have it downloaded again' in message and '\n' not in message


def changed(files):
  """Another commit: every file is a little longer, and means the same or nothing."""
  encode = lambda data: data.encode() if isinstance(data, str) else data
  return {name: encode(data) + b' ' for name, data in files.items()}


def test_a_subset_that_no_card_lists_is_a_folder_or_nothing(hub):
  rows = lambda *texts: 'text,label\n' + ''.join(f'{one},0\n' for one in texts)
  hub.put(
    'dataset',
    'someuser/plain',
    {
      'cola/train.csv': rows('a', 'b'),
      'sst2/train.csv': rows('c', 'd', 'e'),
      'README.md': '# Two tasks\n',
    },
  )
  place = client.parse('someuser/plain', 'dataset')
  read = lambda subset, **how: hub_tables(place, subset, 'give a folder', **how)
  assert read('sst2')['train']()['text'] == ['c', 'd', 'e']
  assert len(read('')['train']()) == len(read('default')['train']()) == 5
  with pytest.raises(ValueError, match="no subsets .* has no folder 'rte': leave"):
    read('rte')
  # As for a mirror of a single task.
  assert len(read('rte', listed=False)['train']()) == 5


def test_a_folder_in_a_card_may_begin_with_a_dot():
  names = ['en/train.csv', 'de/train.csv']
  assert files_of({'data_dir': './en'}, names) == {'en/train.csv'}
