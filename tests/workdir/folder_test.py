"""Tests ../../adapad_jax/workdir/folder.py and config.py; runs in ../training."""

import pytest

from adapad_jax.workdir import (
  at,
  begin,
  config_of,
  is_regression,
  require_same_config,
  require_usable,
)


def test_a_file_in_the_place_of_a_workdir_is_refused(tmp_path):
  (tmp_path / 'run').write_text('x')
  for workdir in (tmp_path / 'run', tmp_path / 'run/below'):
    with pytest.raises(ValueError, match='run is a file, not a folder'):
      require_usable(workdir)


def test_a_workdir_that_was_begun_has_a_config_which_others_are_held_to(tmp_path):
  with pytest.raises(ValueError, match='holds no run: there is no config.json'):
    config_of(tmp_path)
  assert not is_regression(tmp_path)
  there = {'program': 'regression', 'seed': 0, 'solver': {'name': 'power', 'steps': 3}}
  begin(tmp_path, {'format': 1}, there)
  assert config_of(tmp_path) == there and is_regression(tmp_path)
  require_same_config(tmp_path, there, there)
  mine = there | {'seed': 1, 'solver': {'name': 'power'}}
  with pytest.raises(ValueError) as refused:
    require_same_config(tmp_path, mine, there)
  assert (
    f'{tmp_path} holds a run with another config: seed is 1, there it is 0;'
    ' solver.steps is None, there it is 3;' in str(refused.value)
  )
  require_same_config(tmp_path, mine, there, free=('seed', 'solver.'))


def test_a_record_is_there_before_the_config_that_makes_it_a_run(tmp_path):
  with pytest.raises(TypeError):
    begin(tmp_path, {'format': 1}, {'seed': object()})
  assert (tmp_path / 'run.json').is_file()
  with pytest.raises(ValueError, match='holds no run'):
    config_of(at(tmp_path))
