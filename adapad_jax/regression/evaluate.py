"""Errors of a finished run, computed again from what it saved."""

import pathlib
import zipfile
from typing import Any

import numpy as np

from adapad_jax.files import finite, read_json
from adapad_jax.regression.config import RegressionConfig, stored_config
from adapad_jax.regression.data import less, load
from adapad_jax.regression.record import require_same_files
from adapad_jax.regression.run import COMPONENTS, errors_of_prefixes, left_over
from adapad_jax.workdir import CONFIG, result_of


def evaluate(workdir: pathlib.Path, max_rank: int = 0) -> dict[str, Any]:
  """Train and test error of the components in a workdir, as shares of ||Y||_F^2.

  Args:
    workdir: of a finished run.
    max_rank: components to keep; 0 keeps all.

  Raises:
    ValueError: if the run has not ended, or its data cannot be read any more.
  """
  active = result_of(workdir, {'active': int})['active']
  require_same_files(workdir)
  data = load(_config(workdir / CONFIG))
  keep = min(max_rank, active) if max_rank else active
  saved = _components(workdir / COMPONENTS)
  own = saved['a_RI'][:keep], saved['b_RO'][:keep]
  data = less(data, saved['mean_I'], saved['mean_O'])
  test = errors_of_prefixes(*own, data.test_x_NI, data.test_y_NO)
  return finite(
    {
      'rank': keep,
      'train_error': left_over(*own, data.x_NI, data.y_NO),
      'test_error': test[-1],
      'test_error_of_prefixes': test,
    }
  )


def _config(path: pathlib.Path) -> RegressionConfig:
  values = read_json(path)
  try:
    return stored_config(values)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _components(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays that the run saved.

  Raises:
    ValueError: naming the file, if it is damaged.
  """
  try:
    with np.load(path, allow_pickle=False) as saved:
      return {name: saved[name] for name in ('a_RI', 'b_RO', 'mean_I', 'mean_O')}
  except FileNotFoundError:
    raise
  except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(
      f'{path} is damaged ({error}); train the run again in another --workdir'
    ) from error
