"""Nothing half-written: full disks, closed folders, and files that came out wrong."""

import pathlib
import resource

import numpy as np
import pytest

from adapad_jax.interchange import peft_writer, write_merged, write_peft
from adapad_jax.interchange.staging import new_folder, require_free
from adapad_jax.lowrank.prefixes import cut_to_ranks
from adapad_jax.models import Head
from tests.interchange import kit


@pytest.fixture(scope='module')
def release(shared):
  return kit.draw_release(shared / 'models/stories260k', Head('lm'))


@pytest.fixture(scope='module')
def batch(release):
  return kit.encode(release.base)


def test_a_folder_appears_when_all_is_written(tmp_path):
  with new_folder(tmp_path / 'deep/out') as folder:
    (folder / 'file').write_text('x')
    assert not (tmp_path / 'deep/out').exists()
  assert [p.name for p in (tmp_path / 'deep').iterdir()] == ['out']
  assert (tmp_path / 'deep/out/file').read_text() == 'x'


def test_an_error_leaves_nothing(tmp_path):
  with pytest.raises(ZeroDivisionError), new_folder(tmp_path / 'out') as folder:
    (folder / 'file').write_text('x')
    raise ZeroDivisionError
  assert list(tmp_path.iterdir()) == []


def test_existing_work_is_not_overwritten(tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out/mine').write_text('x')
  with (
    pytest.raises(ValueError, match='out exists already'),
    new_folder(tmp_path / 'out'),
  ):
    raise AssertionError('must not get here')
  assert (tmp_path / 'out/mine').read_text() == 'x'


def test_trying_a_place_leaves_nothing_there(tmp_path):
  (tmp_path / 'empty').mkdir()
  assert require_free(tmp_path / 'empty') == tmp_path / 'empty'
  assert require_free(tmp_path / 'deep/out') == tmp_path / 'deep/out'
  assert [path.name for path in tmp_path.rglob('*')] == ['empty']
  (tmp_path / 'file').touch()
  with pytest.raises(ValueError, match='cannot write .*Not a directory'):
    require_free(tmp_path / 'file/out')


def test_a_folder_that_cannot_be_written_is_named(release, batch):
  # Not even root makes folders there.
  out = pathlib.Path('/proc/adapter')
  with pytest.raises(
    ValueError, match='cannot write /proc/adapter: .*nothing was left'
  ):
    write_peft(release, out, batch)


def test_a_file_that_cannot_be_read_is_not_one_that_cannot_be_written(tmp_path):
  with (
    pytest.raises(ValueError, match='cannot read /proc/gone: .*nothing was left at'),
    new_folder(tmp_path / 'out'),
  ):
    pathlib.Path('/proc/gone').read_bytes()
  with (
    pytest.raises(ValueError, match='cannot write .*/out: .*/gone'),
    new_folder(tmp_path / 'out') as folder,
  ):
    (folder / 'gone').read_bytes()
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('write', [write_peft, write_merged])
def test_a_full_disk_leaves_nothing(release, batch, write, tmp_path):
  """A limit on the size of files stands for the disk: writing fails half-way."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
  try:
    with pytest.raises(ValueError, match='cannot write .*out: .*too large'):
      write(release, tmp_path / 'out', batch)
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('damage', ['value', 'order', 'module'])
def test_a_file_that_came_out_wrong_is_not_kept(
  release, batch, damage, tmp_path, monkeypatch
):
  honest = peft_writer.save_file

  def save(tensors, path, metadata):
    name = next(n for n, t in tensors.items() if 'lora_A' in n and len(t) > 1)
    if damage == 'value':
      tensors[name] = tensors[name] + np.float32(1e-3)
    if damage == 'order':  # what safetensors 0.8.0 does to a transposed view
      tensors[name] = tensors[name].T.copy().reshape(tensors[name].shape)
    if damage == 'module':
      other = name.replace('lora_A', 'lora_B')
      tensors = {k: v for k, v in tensors.items() if k not in (name, other)}
    honest(tensors, path, metadata)

  monkeypatch.setattr(peft_writer, 'save_file', save)
  with pytest.raises(ValueError, match='differ by|tensors it lacks'):
    write_peft(release, tmp_path / 'out', batch)
  assert list(tmp_path.iterdir()) == []


def test_an_adapter_without_a_component_is_refused(release, batch, tmp_path):
  none = cut_to_ranks(release.adapter, dict.fromkeys(release.adapter.modules, 0))
  empty = kit.Release(none, release.base, release.base_name)
  with pytest.raises(ValueError, match='no module of the adapter has a component'):
    write_peft(empty, tmp_path / 'out', batch)


def test_an_adapter_of_another_model_is_refused(release):
  adapter = release.adapter
  name, update = next((n, u) for n, u in adapter.modules.items() if u.rank)
  shorter = type(update)(update.a_RI[:, 1:], update.b_RO)
  infinite = type(update)(update.a_RI * np.float32(np.inf), update.b_RO)
  for changed, message in (
    ({name: shorter}, f'{name}: the update is'),
    ({name: infinite}, f'{name}: the update is not finite'),
    ({'nowhere.dense': update}, 'nowhere.dense: the model has no such linear layer'),
  ):
    modules = {**adapter.modules, **changed}
    with pytest.raises(ValueError, match=message):
      kit.Release(kit.Adapter(modules, {}), release.base, 'x')
