"""Tests ../adapad_jax/compilation.py."""

import jax

from adapad_jax.compilation import cache_folder, keep_compiled


def test_jaxs_own_setting_goes_first():
  set_by_tests = jax.config.jax_compilation_cache_dir
  assert str(keep_compiled()) == set_by_tests == jax.config.jax_compilation_cache_dir


def test_without_one_programs_lie_in_the_users_cache(tmp_path, monkeypatch):
  before = jax.config.jax_compilation_cache_dir
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  try:
    jax.config.update('jax_compilation_cache_dir', None)
    assert keep_compiled() == tmp_path / 'adapad_jax' / 'xla' == cache_folder()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'adapad_jax/xla')
  finally:
    jax.config.update('jax_compilation_cache_dir', before)
