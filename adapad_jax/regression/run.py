"""`program = 'regression'`: one fit from a config, with its metrics and report."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapad_jax import sharding
from adapad_jax.files import finite, read_json, write_json
from adapad_jax.regression import planted
from adapad_jax.regression.config import DataConfig, RegressionConfig
from adapad_jax.regression.discovery import discover
from adapad_jax.regression.fit import Fit, checked, fit, precision
from adapad_jax.regression.relatives import (
  compute_schedule,
  exact_fit,
  joint_fit,
  sequential_fit,
)
from adapad_jax.settings import as_dict, build
from adapad_jax.training.logs import METRICS, JsonLines
from adapad_jax.training.result import RESULT, versions

COMPONENTS = 'components.npz'


@dataclasses.dataclass(frozen=True)
class Split:
  """Rows to train and to test on; y is None for principal components."""

  x_NI: np.ndarray
  y_NO: np.ndarray | None
  test_x_NI: np.ndarray
  test_y_NO: np.ndarray | None


def run(config: Mapping[str, Any], workdir: pathlib.Path, dry_run: bool) -> dict:
  """Fits what the config says; everything is checked before anything is written.

  Writes `config.json`, `metrics.jsonl` (one line a round), `components.npz` (a_RI,
  b_RO, mean_I, mean_O) and `result.json`. A workdir that holds a result is left as
  it is, and its result returned.

  Args:
    config: nested plain dict, see `config.RegressionConfig`.
    workdir: folder of the run.
    dry_run: whether to return only what would be done.

  Raises:
    ValueError: for unknown fields, values out of range or data that cannot be fitted.
  """
  settings = build(RegressionConfig, config)
  data = load(settings)
  if settings.method in ('parallel', 'discover'):
    sharding.make_mesh(settings.devices)
  if dry_run:
    return _outline(settings, data)
  if (workdir / RESULT).is_file():
    return read_json(workdir / RESULT)
  centred, mean_I, mean_O = _centre(data, settings.data.centre)
  start = time.perf_counter()
  fitted = METHODS[settings.method](settings, centred)
  seconds = time.perf_counter() - start
  best = exact_fit(
    centred.x_NI, centred.y_NO, settings.rank,
    dtype=settings.dtype, ridge=settings.ridge,
  )  # fmt: skip
  result = finite(_outline(settings, data) | _scores(fitted, best, centred, seconds))
  write_json(workdir / 'config.json', as_dict(settings))
  _write_metrics(workdir, fitted, best)
  np.savez(
    workdir / COMPONENTS,
    a_RI=fitted.a_RI, b_RO=fitted.b_RO, mean_I=mean_I, mean_O=mean_O,
  )  # fmt: skip
  write_json(workdir / RESULT, result)
  return result


def load(settings: RegressionConfig) -> Split:
  """Reads or plants the data, and splits off the test rows.

  Raises:
    ValueError: for files that cannot be read, or data that cannot be fitted.
  """
  draw = np.random.default_rng(settings.seed)
  data = settings.data
  x_NI, y_NO = _read(data) if data.x else _plant(data, draw)
  y_NO = None if settings.pca else y_NO
  with precision(settings.dtype):
    x_NI, y_NO = checked(x_NI, y_NO, settings.rank)
  for name, values in (('data.x', x_NI), ('data.y', y_NO)):
    if values is not None and not np.isfinite(values).all():
      raise ValueError(f'{name} has NaN or infinite values: clean the data')
  order_N = draw.permutation(len(x_NI))
  held = int(data.holdout * len(x_NI))
  test_N, train_N = order_N[:held], order_N[held:]
  cut = lambda z_NX, rows_N: None if z_NX is None else z_NX[rows_N]
  return Split(x_NI[train_N], cut(y_NO, train_N), x_NI[test_N], cut(y_NO, test_N))


def _read(data: DataConfig) -> tuple[np.ndarray, np.ndarray | None]:
  return _matrix(data.x, 'data.x'), _matrix(data.y, 'data.y') if data.y else None


def _matrix(path: str, where: str) -> np.ndarray:
  """A matrix of numbers from a file; one column may come as a vector.

  Raises:
    ValueError: if there is no such file or it holds something else.
  """
  file = pathlib.Path(path)
  if file.suffix not in ('.npy', '.csv', '.tsv'):
    raise ValueError(f'{where}={path!r} must end in .npy, .csv or .tsv')
  if not file.is_file():
    raise ValueError(f'{where}={path!r} is not a file')
  try:
    if file.suffix == '.npy':
      values = np.load(file, allow_pickle=False)
    else:
      separator = ',' if file.suffix == '.csv' else '\t'
      values = np.loadtxt(file, delimiter=separator, ndmin=2)
  except ValueError as error:
    raise ValueError(f'{where}={path!r} cannot be read as numbers: {error}') from error
  if values.dtype.kind not in 'fiub':
    raise ValueError(f'{where}={path!r} holds {values.dtype}, not real numbers')
  return values[:, None] if values.ndim == 1 else values


def _plant(
  data: DataConfig, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Gaussian inputs and W of the wanted spectrum; for `pca` the outputs are inputs."""
  sigma_R = planted.spectrum(data.spectrum, data.rank, data.decay)
  w_OI = planted.weights(sigma_R, data.inputs, data.outputs, draw)
  x_NI, y_NO = planted.gaussian_design(w_OI, data.examples, data.noise, draw)
  return (y_NO, y_NO) if data.pca else (x_NI, y_NO)


def _centre(data: Split, centre: bool) -> tuple[Split, np.ndarray, np.ndarray]:
  """The data less the means of the training rows, and those means."""
  y_NO = data.x_NI if data.y_NO is None else data.y_NO
  mean = lambda z_NX: z_NX.mean(0) if centre else np.zeros_like(z_NX[0])
  mean_I, mean_O = mean(data.x_NI), mean(y_NO)
  less = lambda z_NX, mean_X: None if z_NX is None else z_NX - mean_X
  centred = Split(
    less(data.x_NI, mean_I),
    less(data.y_NO, mean_O),
    less(data.test_x_NI, mean_I),
    less(data.test_y_NO, mean_O),
  )
  return centred, mean_I, mean_O


def _parallel(settings: RegressionConfig, data: Split) -> Fit:
  rounds = settings.schedule.rounds
  return fit(
    data.x_NI,
    data.y_NO,
    settings.rank,
    solver=settings.solver.build(settings.pca),
    schedule=settings.schedule,
    mesh=sharding.make_mesh(settings.devices),
    dtype=settings.dtype,
    ridge=settings.ridge,
    seed=settings.seed,
    traffic=settings.traffic.build(rounds, settings.rank, settings.seed),
  )


def _sequential(settings: RegressionConfig, data: Split) -> Fit:
  # As many component updates as the parallel run makes.
  in_all = settings.schedule.rounds * settings.rank
  return sequential_fit(
    data.x_NI,
    data.y_NO,
    compute_schedule(in_all, settings.rank, settings.slope),
    local_steps=settings.schedule.local_steps,
    solver=settings.solver.build(settings.pca),
    dtype=settings.dtype,
    ridge=settings.ridge,
    seed=settings.seed,
  )


def _joint(settings: RegressionConfig, data: Split) -> Fit:
  return joint_fit(
    data.x_NI,
    data.y_NO,
    settings.rank,
    settings.solver.tx(),
    rounds_in_all=settings.schedule.rounds,
    local_steps=settings.schedule.local_steps,
    dtype=settings.dtype,
    ridge=settings.ridge,
    seed=settings.seed,
  )


def _exact(settings: RegressionConfig, data: Split) -> Fit:
  return exact_fit(
    data.x_NI, data.y_NO, settings.rank, dtype=settings.dtype, ridge=settings.ridge
  )


def _discover(settings: RegressionConfig, data: Split) -> Fit:
  return discover(
    data.x_NI,
    data.y_NO,
    settings.rank,
    level=settings.level,
    solver=settings.solver.build(pca=False),
    schedule=settings.schedule,
    mesh=sharding.make_mesh(settings.devices),
    dtype=settings.dtype,
    seed=settings.seed,
  )


METHODS = {
  'parallel': _parallel,
  'sequential': _sequential,
  'joint': _joint,
  'exact': _exact,
  'discover': _discover,
}


def _outline(settings: RegressionConfig, data: Split) -> dict[str, Any]:
  """What is fitted to what, and how."""
  outputs = (data.x_NI if settings.pca else data.y_NO).shape[1]
  inputs = data.x_NI.shape[1]
  return {
    'program': 'regression',
    'task': 'pca' if settings.pca else 'regression',
    'method': settings.method,
    'solver': settings.solver.name,
    'rank': settings.rank,
    'examples': len(data.x_NI),
    'test_examples': len(data.test_x_NI),
    'inputs': inputs,
    'outputs': outputs,
    'parameters': settings.rank * (inputs + outputs),
    'rounds': settings.schedule.rounds,
    'local_steps': settings.schedule.local_steps,
    'devices': settings.devices,
    'dtype': settings.dtype,
  }


def _scores(fitted: Fit, best: Fit, data: Split, seconds: float) -> dict[str, Any]:
  """The outcome; errors are shares of ||Y||_F^2 after centring."""
  train = _left_over(fitted, data.x_NI, data.y_NO)
  prefixes = range(fitted.active + 1)
  test = [_left_over(fitted, data.test_x_NI, data.test_y_NO, k) for k in prefixes]
  return {
    'rounds': len(fitted.objective_LR),
    'active': fitted.active,
    'seconds': seconds,
    'train_error': train,
    'train_error_exact': _left_over(best, data.x_NI, data.y_NO, fitted.active),
    'test_error': test[-1],
    'test_error_of_prefixes': test,
    'distance_to_exact': _distance(fitted, best, data.x_NI),
    'components': COMPONENTS,
    'versions': versions(),
  }


def _left_over(
  fitted: Fit, x_NI: np.ndarray, y_NO: np.ndarray | None, rank: int | None = None
) -> float:
  """||Y - W X||_F^2 / ||Y||_F^2; NaN without examples."""
  y_NO = x_NI if y_NO is None else y_NO
  total = np.sum(np.square(y_NO, dtype=np.float64))
  error_NO = y_NO - fitted.predict(x_NI, rank)
  return (
    float(np.sum(np.square(error_NO, dtype=np.float64)) / total) if total else np.nan
  )


def _distance(fitted: Fit, best: Fit, x_NI: np.ndarray) -> float:
  """||(W - W_exact) X||_F / ||W_exact X||_F at the same rank."""
  want_NO = best.predict(x_NI, fitted.active)
  size = np.linalg.norm(want_NO)
  return (
    float(np.linalg.norm(fitted.predict(x_NI) - want_NO) / size) if size else np.nan
  )


def _write_metrics(workdir: pathlib.Path, fitted: Fit, best: Fit) -> None:
  """One line a round."""
  log = JsonLines(workdir / METRICS, 0)
  last = fitted.active - 1
  rows = zip(fitted.objective_LR.tolist(), fitted.moved_LR.tolist(), strict=True)
  for l, (objective_R, moved_R) in enumerate(rows):
    values = {'train/objective': objective_R[last], 'train/moved': max(moved_R)}
    if fitted.active:
      values['train/excess'] = objective_R[last] - float(best.objective_LR[0, last])
    log.write(l + 1, values)
