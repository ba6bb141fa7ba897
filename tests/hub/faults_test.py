"""What a user sees of each fault of the hub, for a model, data and an adapter.

The table in docs/hub.md is what these tests find.
"""

import logging
import pathlib
import re

import pytest

from adapad_jax import hub as client
from adapad_jax import models
from adapad_jax.interchange import find_adapter
from adapad_jax.tasks.hub import hub_tables
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


def changed(files):
  """Another commit: every file is a little longer, and means the same or nothing."""
  encode = lambda data: data.encode() if isinstance(data, str) else data
  return {name: encode(data) + b' ' for name, data in files.items()}
