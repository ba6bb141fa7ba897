"""Arrays in files: made once, whole or not at all."""

import threading

import numpy as np
import pytest

from adapad_jax.tasks import store

KINDS = {'ids': np.int32, 'length': np.int64}


def write(writer):
  writer.append(ids=[3, 1], length=[2])
  writer.append(ids=[4], length=[1])
  return {'cut': 1}


def check(found):
  assert found.arrays['ids'].tolist() == [3, 1, 4]
  assert found.arrays['length'].tolist() == [2, 1]
  assert found.about == {'cut': 1}
  assert {name: x.dtype for name, x in found.arrays.items()} == KINDS


def test_in_memory_and_in_files(tmp_path):
  check(store.in_memory(KINDS, write))
  root = tmp_path / 'new' / 'folder'
  check(store.kept(str(root), {'key': 1}, KINDS, write))
  check(store.kept(str(root), {'key': 1}, KINDS, lambda _: pytest.fail('made again')))
  check(store.kept(str(root), {'key': 2}, KINDS, write))
  assert len(list(root.iterdir())) == 2


def test_nothing_is_kept_too(tmp_path):
  for _ in range(2):
    found = store.kept(str(tmp_path), {}, KINDS, lambda _: {})
    assert not len(found.arrays['ids']) and found.about == {}


def test_two_starts_at_once(tmp_path):
  """Both make it, one folder stays, and both read the same."""
  barrier, found = threading.Barrier(2), []

  def slowly(writer):
    barrier.wait(timeout=30)
    about = write(writer)
    barrier.wait(timeout=30)
    return about

  start = lambda: found.append(store.kept(str(tmp_path), {'key': 1}, KINDS, slowly))
  threads = [threading.Thread(target=start) for _ in range(2)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(timeout=60)
  assert len(found) == 2 and len(list(tmp_path.iterdir())) == 1
  for one in found:
    check(one)


def test_a_start_that_dies_leaves_nothing(tmp_path):
  def dies(writer):
    writer.append(ids=[1], length=[1])
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    store.kept(str(tmp_path), {}, KINDS, dies)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('harm', ['short', 'cut', 'list', 'empty', 'gone'])
def test_what_is_not_whole_is_made_again(tmp_path, harm):
  store.kept(str(tmp_path), {}, KINDS, write)
  (folder,) = tmp_path.iterdir()
  ids, about = folder / 'ids.bin', folder / 'about.json'
  if harm == 'short':
    ids.write_bytes(ids.read_bytes()[:-4])
  elif harm == 'cut':
    ids.write_bytes(ids.read_bytes()[:-1])
  elif harm == 'list':
    about.write_text('[1]')
  elif harm == 'empty':
    about.write_text('')
  else:
    (folder / 'length.bin').unlink()
  assert store.open_kept(folder, KINDS) is None
  check(store.kept(str(tmp_path), {}, KINDS, write))
  assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_folder_that_cannot_be_made_is_named_with_the_setting(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match=r'kept in .*file.* another folder .*data.cache'):
    store.kept(str(tmp_path / 'file'), {}, KINDS, write)


def test_a_cache_that_cannot_be_written_to_is_told_and_not_used(
  tmp_path, monkeypatch, caplog
):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  check(store.kept('', {}, KINDS, write))
  assert 'rows cannot be kept in' in caplog.text and 'data.cache' in caplog.text
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  check(store.kept('', {}, KINDS, write))
  assert len(list((tmp_path / 'adapad_jax/tokens').iterdir())) == 1
