"""This process as a client of the test hub: no other host, an empty cache, no waits."""

import contextlib
import time

import huggingface_hub.constants as constants

from tests.hub.server import serve


@contextlib.contextmanager
def connected(folder, monkeypatch):
  """A running hub that this process's libraries take for the only one."""
  with serve() as hub, monkeypatch.context() as patch:
    names = {
      'ENDPOINT': hub.url,
      'HUGGINGFACE_CO_URL_TEMPLATE': (
        hub.url + '/{repo_id}/resolve/{revision}/{filename}'
      ),
      'HF_HUB_OFFLINE': False,
      'HF_HUB_CACHE': str(folder / 'hub'),
      'HF_TOKEN_PATH': str(folder / 'token'),
      'HF_STORED_TOKENS_PATH': str(folder / 'tokens'),
      'HF_HUB_DISABLE_XET': True,
      'HF_HUB_ETAG_TIMEOUT': 0.3,
      'HF_HUB_DOWNLOAD_TIMEOUT': 0.3,
    }
    for name, value in names.items():
      patch.setattr(constants, name, value)
    patch.delenv('HF_TOKEN', raising=False)
    patch.setenv('HF_DATASETS_CACHE', str(folder / 'datasets'))
    patch.setattr(time, 'sleep', lambda seconds: None)
    yield hub
