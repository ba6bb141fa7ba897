"""Finding a model's folder: packages, directories, the hub and its cache."""

import json
import pathlib
import sys

import pytest

from adapad_jax.models import sources
from tests.hub.client import connected


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


BESIDE = ('pytorch_model.generator.bin', 'rust_model.ot', 'tf_model.h5', 'x/a.json')
SHARDED = 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'
INDEX = json.dumps({'weight_map': dict(zip('ab', SHARDED, strict=True))})


@pytest.mark.parametrize(
  'there,wanted',
  [
    (('pytorch_model.bin',), ('pytorch_model.bin',)),
    (('pytorch_model.bin', 'model.safetensors'), ('model.safetensors',)),
    (('pytorch_model.bin', 'adapter_model.safetensors'), ('pytorch_model.bin',)),
    (('model.safetensors.index.json', 'consolidated.safetensors', *SHARDED), SHARDED),
    (('pytorch_model.bin.index.json', *SHARDED, 'other.bin'), SHARDED),
  ],
  ids=lambda names: names[-1],
)
def test_of_all_weight_files_the_models_own_are_fetched(
  there, wanted, tmp_path, monkeypatch
):
  small = ['config.json', 'spm.model', 'generation_config.json']
  files = dict.fromkeys((*small, *BESIDE, *there), 'x')
  files |= {name: INDEX for name in there if name.endswith('.index.json')}
  with connected(tmp_path, monkeypatch) as hub:
    hub.put('model', 'microsoft/deberta-v3-base', files)
    found = sources.find('microsoft/deberta-v3-base')
    index = [name for name in there if name.endswith('.index.json')]
    assert names_in(found.folder) == sorted([*small, *index])
    sizes = found.to_download()
    assert sizes == dict.fromkeys(wanted, 1) and names_in(found.folder) != sizes
    folder = sources.resolve('microsoft/deberta-v3-base')
    assert names_in(folder) == sorted([*small, *index, *wanted])
    assert found.to_download() == {}


def names_in(folder):
  return sorted(path.name for path in folder.rglob('*') if path.is_file())


def test_a_model_without_weights_that_can_be_read_is_refused(tmp_path, monkeypatch):
  files = {'config.json': '{}', 'tf_model.h5': 'x'}
  with connected(tmp_path, monkeypatch) as hub:
    hub.put('model', 'someone/other', files)
    with pytest.raises(ValueError, match=r"no weights .* it has \['config.json', 'tf"):
      sources.resolve('someone/other')
    for index in ('{}', '[]', '{"weight_map": [1]}'):
      hub.put('model', 'someone/other', files | {'model.safetensors.index.json': index})
      with pytest.raises(ValueError, match="index.json of model .* no 'weight_map'"):
        sources.find('someone/other')
    files['model.safetensors.index.json'] = INDEX
    hub.put('model', 'someone/other', files)
    with pytest.raises(ValueError, match='names shards that are not in its folder'):
      sources.find('someone/other')


def test_a_directory_wins_over_an_id_of_the_same_name(tmp_path, monkeypatch):
  (tmp_path / 'someone' / 'tiny').mkdir(parents=True)
  monkeypatch.chdir(tmp_path)
  with connected(tmp_path, monkeypatch) as hub:
    hub.put('model', 'someone/tiny', {'config.json': '{}'})
    found = sources.find('someone/tiny')
    assert found.commit is None and not hub.asked
    commit = hub.put('model', 'someone/tiny', {'config.json': '{"new": 1}'}, 'v2')
    assert sources.find('someone/tiny@v2').commit.commit == commit
    with pytest.raises(ValueError, match="'v1'; http.*/someone/tiny/tree/main lists"):
      sources.find('someone/tiny@v1')
    with pytest.raises(ValueError, match='ask for two revisions'):
      sources.find('someone/tiny@v2', 'v1')


def test_a_hub_id_that_is_not_cached_is_refused_when_offline(cache):
  with pytest.raises(ValueError, match="'someone/large-bert' is neither"):
    sources.resolve('someone/large-bert')
