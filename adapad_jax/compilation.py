"""Keeps compiled programs from one start to the next."""

import os
import pathlib

import jax

from adapad_jax.files import user_cache

_SHORTEST = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'


def cache_folder() -> pathlib.Path:
  """Where compiled programs are kept: jax's own setting, or the user's cache."""
  if jax.config.jax_compilation_cache_dir:
    return pathlib.Path(jax.config.jax_compilation_cache_dir)
  return user_cache() / 'xla'


def keep_compiled() -> pathlib.Path:
  """Switches jax's persistent compilation cache on, unless jax has been told where.

  A second start of the same run then reads its programs instead of making them, small
  ones too: JAX leaves out what takes less than a second, of which a start has several.
  """
  folder = cache_folder()
  if _SHORTEST not in os.environ:
    jax.config.update(_SHORTEST.lower(), 0.0)
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', str(folder))
  return folder
