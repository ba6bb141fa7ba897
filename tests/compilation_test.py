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


def test_small_programs_are_kept_too_unless_the_user_says_else(monkeypatch):
  name, config = 'jax_persistent_cache_min_compile_time_secs', jax.config
  before = getattr(config, name)
  try:
    for given, kept in (('', 0.0), ('0.5', 0.5)):
      config.update(name, 0.5)
      monkeypatch.delenv(name.upper(), raising=False)
      if given:
        monkeypatch.setenv(name.upper(), given)
      keep_compiled()
      assert getattr(config, name) == kept
  finally:
    config.update(name, before)
