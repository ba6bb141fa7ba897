"""Tests ../../adapad_jax/training/checkpoints.py: what is moved, what stays."""

import errno

import jax
import numpy as np
import pytest

from adapad_jax.training import checkpoints
from adapad_jax.training.checkpoints import (
  Checkpoints,
  OtherShapes,
  target_of,
)

STATE = {'x': np.arange(3.0, dtype=np.float32)}


@pytest.fixture
def saved(tmp_path):
  """Two saves of `latest`, of steps 1 and 2."""
  there = Checkpoints(tmp_path)
  for step in (1, 2):
    there.save('latest', step, STATE, {'step': step})
  there.wait()
  yield there
  there.close()


def restored(saved, kind='latest'):
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1])
  return saved.read(kind, target_of(STATE, mesh))


def fail_with(monkeypatch, error):
  def read(self, kind, step, target):
    raise error

  monkeypatch.setattr(Checkpoints, '_read', read)


@pytest.mark.parametrize(
  'error',
  [
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: out of memory'),
    MemoryError(),
    OSError(errno.EIO, 'Input/output error'),
    PermissionError(errno.EACCES, 'Permission denied'),
    ValueError('RESOURCE_EXHAUSTED: Failed to open: "x": Too many open files'),
  ],
  ids=lambda error: type(error).__name__,
)
def test_an_error_of_the_machine_leaves_saves_where_they_are(saved, error, monkeypatch):
  with monkeypatch.context() as patch:
    fail_with(patch, error)
    with pytest.raises(type(error)):
      restored(saved)
  step, state, meta = restored(saved)
  assert step == 2 and meta == {'step': 2}
  np.testing.assert_array_equal(state['x'], STATE['x'])


def test_what_can_be_read_is_not_damaged_whatever_went_wrong(saved, monkeypatch):
  with monkeypatch.context() as patch:
    fail_with(patch, TypeError('of some library'))
    with pytest.raises(TypeError, match='of some library'):
      restored(saved)
  assert restored(saved)[0] == 2


@pytest.mark.parametrize(
  'state, message',
  [
    ({'x': np.zeros(4, np.float32)}, r'x is \[3\], it should be \[4\]'),
    (
      {'y': np.zeros(3, np.float32)},
      r'x is \[3\], it should be absent; y is',
    ),
  ],
)
def test_a_state_of_other_shapes_is_named_and_stays(saved, tmp_path, state, message):
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices()[:1])
  with pytest.raises(OtherShapes, match=f'latest/2 holds a state of .*{message}'):
    saved.read('latest', target_of(state, mesh))
  assert not (tmp_path / 'damaged').exists() and restored(saved)[0] == 2


def test_who_only_looks_reads_the_save_before_a_damaged_one_and_moves_nothing(
  saved, tmp_path, caplog
):
  looked = Checkpoints(tmp_path, read_only=True)
  assert restored(looked)[0] == 2 and restored(looked, 'best') is None
  (tmp_path / 'latest/2/meta/metadata').write_text('{"st')
  before = sorted(tmp_path.rglob('*'))
  assert restored(looked)[0] == 1 and 'latest/2 of step 2 is damaged' in caplog.text
  assert sorted(tmp_path.rglob('*')) == before
  looked.close()
  nowhere = Checkpoints(tmp_path / 'nowhere', read_only=True)
  assert restored(nowhere) is None and not (tmp_path / 'nowhere').exists()
  assert restored(saved)[0] == 1
  assert [path.name for path in (tmp_path / 'damaged').iterdir()] == ['latest-2']


def test_several_processes_move_nothing(saved, monkeypatch):
  with monkeypatch.context() as patch:
    fail_with(patch, ValueError('torn'))
    patch.setattr(checkpoints, 'are_several', lambda: True)
    with pytest.raises(ValueError, match=r'latest/2 cannot be read .torn.; .* in one'):
      restored(saved)
  assert restored(saved)[0] == 2


def test_nothing_that_was_moved_aside_is_lost(saved, tmp_path):
  """A damaged save of step 2, made again, is damaged again."""
  aside = tmp_path / 'damaged'
  (aside / 'latest-2').mkdir(parents=True)
  (aside / 'latest-2/mine').write_text('x')
  for path in (tmp_path / 'latest/2').rglob('*'):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  assert restored(saved)[0] == 1
  assert sorted(p.name for p in aside.iterdir()) == ['latest-2', 'latest-2-2']
  assert (aside / 'latest-2/mine').read_text() == 'x'


def test_a_run_that_ends_before_latest_is_saved_keeps_the_best_before(saved):
  saved.save('best', 2, STATE, {'step': 2})
  saved.save('best', 3, STATE, {'step': 3})  # and the run ends here
  saved.wait()
  saved.forget('best', after=2)
  assert restored(saved, 'best')[0] == 2


def test_best_is_not_saved_before_the_latest_is_on_disk(saved, monkeypatch):
  order, latest = [], saved._manager('latest')
  monkeypatch.setattr(latest, 'wait_until_finished', lambda: order.append('waited'))
  save = lambda *args, **kwargs: order.append('saved')
  monkeypatch.setattr(saved._manager('best'), 'save', save)
  saved.save('best', 3, STATE, {})
  assert order == ['waited', 'saved']


def test_one_save_is_under_way(tmp_path, monkeypatch):
  """`latest` names the best state, and processes would meet at the same barriers."""
  there, under_way = Checkpoints(tmp_path), set()
  together = []
  for kind in checkpoints.KINDS:
    manager = there._manager(kind)

    def save(*args, kind=kind, **kwargs):
      under_way.add(kind)
      together.append(len(under_way))

    def wait(kind=kind):
      under_way.discard(kind)

    monkeypatch.setattr(manager, 'save', save)
    monkeypatch.setattr(manager, 'wait_until_finished', wait)
  for kind in ('best', 'latest', 'best', 'latest'):
    there.save(kind, 60, STATE, {})
  assert together == [1, 1, 1, 1]
  there.close()
