"""Finding a model's folder: packages, directories and the hub's cache, offline."""

import pathlib
import sys

import pytest

from adapad_jax.models import sources


@pytest.fixture
def package(tmp_path, monkeypatch):
  """An installed package with a model in a folder."""
  model = tmp_path / 'some_weights' / 'small' / 'model'
  model.mkdir(parents=True)
  (tmp_path / 'some_weights' / '__init__.py').write_text('raise RuntimeError("ran")')
  (model / 'config.json').write_text('{}')
  monkeypatch.syspath_prepend(tmp_path)
  return model


def test_a_folder_in_a_package_is_found_without_running_the_package(package):
  assert sources.resolve('package:some_weights/small/model') == package
  assert 'some_weights' not in sys.modules


@pytest.mark.parametrize(
  'source,match',
  [
    ('package:no_such_weights/model', "'no_such_weights', which is not installed"),
    ('package:some_weights/large', r"no folder 'large'.*\['small/model'\]"),
    ('package:os.path/x', "'os.path', which is not installed"),
    ('./nothing/here', "no directory './nothing/here'"),
    ('a/b/c', "no directory 'a/b/c'"),
  ],
)
def test_what_is_not_there_is_refused_with_the_choices(package, source, match):
  with pytest.raises(ValueError, match=match):
    sources.resolve(source)


def test_a_directory_is_itself(tmp_path, monkeypatch):
  assert sources.resolve(str(tmp_path)) == tmp_path
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'models').mkdir()
  assert sources.resolve('~/models') == tmp_path / 'models'


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """A hub cache as a download leaves it, with one model."""
  import huggingface_hub.constants as constants

  monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
  repo = tmp_path / 'models--someone--tiny-bert'
  snapshot = repo / 'snapshots' / ('0' * 40)
  snapshot.mkdir(parents=True)
  (repo / 'refs').mkdir()
  (repo / 'refs' / 'main').write_text('0' * 40)
  for name in ('config.json', 'model.safetensors'):
    (snapshot / name).write_text('{}')
  return snapshot


def test_a_hub_id_is_read_from_the_cache_when_offline(cache):
  found = sources.resolve('someone/tiny-bert')
  assert pathlib.Path(found) == cache
  assert (found / 'model.safetensors').is_file()


def test_of_torchs_files_the_models_own_are_asked_for(tmp_path, monkeypatch):
  from huggingface_hub.utils import filter_repo_objects

  there = [
    'config.json',
    'spm.model',
    'pytorch_model.bin',
    'pytorch_model.generator.bin',
    'pytorch_model.bin.index.json',
    'pytorch_model-00001-of-00002.bin',
    'rust_model.ot',
    'tf_model.h5',
  ]
  asked = []

  def download(repo, allow_patterns):
    asked.append(sorted(filter_repo_objects(there, allow_patterns=allow_patterns)))
    return str(tmp_path)

  monkeypatch.setattr(sources.huggingface_hub, 'snapshot_download', download)
  sources.resolve('microsoft/deberta-v3-base')
  wanted = [*there[:3], *there[4:6]]
  small = ['config.json', 'pytorch_model.bin.index.json', 'spm.model']
  assert asked == [small, sorted(wanted)]
  sources.resolve('microsoft/deberta-v3-base', weights=False)
  assert asked[2:] == [small]


def test_a_hub_id_that_is_not_cached_is_refused_when_offline(cache):
  with pytest.raises(ValueError, match="'someone/large-bert' is neither"):
    sources.resolve('someone/large-bert')
