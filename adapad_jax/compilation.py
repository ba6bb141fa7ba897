"""Keeps compiled programs from one start to the next."""

import os
import pathlib

import jax


def cache_folder() -> pathlib.Path:
  """Where compiled programs are kept: jax's own setting, or the user's cache."""
  if jax.config.jax_compilation_cache_dir:
    return pathlib.Path(jax.config.jax_compilation_cache_dir)
  root = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(root) / 'adapad_jax' / 'xla'


def keep_compiled() -> pathlib.Path:
  """Switches jax's persistent compilation cache on, unless jax has been told where.

  A second start of the same run then reads its programs instead of making them.
  """
  folder = cache_folder()
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(folder))
  return folder
