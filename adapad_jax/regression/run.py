"""`program = 'regression'`: one fit from a config, with its metrics and report."""

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapad_jax import sharding
from adapad_jax.files import finite, read_json, write_json
from adapad_jax.regression.baselines import (
  compute_schedule,
  exact_fit,
  joint_fit,
  sequential_fit,
)
from adapad_jax.regression.config import (
  RegressionConfig,
  require_read,
  stored_config,
)
from adapad_jax.regression.data import Split, centre, load
from adapad_jax.regression.discovery import discover
from adapad_jax.regression.fit import Fit, fit, latent
from adapad_jax.regression.record import record_of, require_same_files, settled
from adapad_jax.settings import as_dict, build
from adapad_jax.workdir import (
  CONFIG,
  METRICS,
  RESULT,
  JsonLines,
  at,
  begin,
  config_of,
  is_regression,
  locked,
  require_same_config,
  require_usable,
  versions,
)

COMPONENTS = 'components.npz'


def run(config: Mapping[str, Any], workdir: pathlib.Path, dry_run: bool) -> dict:
  """Fits what the config says; everything is checked before anything is written.

  Writes `run.json` (digests of the data's files), `config.json`, `metrics.jsonl` (one
  line a round), `components.npz` (a_RI, b_RO, mean_I, mean_O) and `result.json`. A
  workdir that holds the result of the same config and data is left as it is, and its
  result returned.

  Args:
    config: nested plain dict, see `config.RegressionConfig`.
    workdir: folder of the run.
    dry_run: whether to return only what would be done.

  Raises:
    ValueError: for unknown fields, values out of range, fields that the method does
      not read, data that cannot be fitted, a fit that diverged, or a workdir that holds
      a run with another config or other data.
  """
  settings = settled(build(RegressionConfig, config))
  workdir = at(workdir)
  if not (workdir / CONFIG).is_file():
    require_read(settings)
  if not dry_run:
    require_usable(workdir)
    _require_same_config(workdir, settings)
  data = load(settings)
  most = min(part.shape[1] for part in (data.x_NI, data.y_NO) if part is not None)
  if settings.rank > most:
    raise ValueError(
      f'rank={settings.rank} is above min(inputs, outputs) = {most}, which is the rank'
      ' of a matrix without any approximation'
    )
  if settings.method in ('parallel', 'discover'):
    try:
      sharding.make_mesh(settings.devices)
    except ValueError as error:
      raise ValueError(f'devices={settings.devices}: {error}') from error
  if dry_run:
    return _outline(settings, data)
  with locked(workdir):
    # Once more: another start may have begun a run here in the meantime.
    _require_same_config(workdir, settings)
    return _fit(settings, data, workdir)


def _fit(
  settings: RegressionConfig, data: Split, workdir: pathlib.Path
) -> dict[str, Any]:
  """Fits in a workdir that this process holds, or reads what came of it before."""
  if (workdir / RESULT).is_file():
    require_same_files(workdir)
    return read_json(workdir / RESULT, dict)
  begin(workdir, record_of(settings), as_dict(settings))
  centred, mean_I, mean_O = centre(data, settings.data.centre)
  start = time.perf_counter()
  fitted = METHODS[settings.method](settings, centred)
  seconds = time.perf_counter() - start
  best = exact_fit(
    centred.x_NI, centred.y_NO, settings.rank,
    dtype=settings.dtype, ridge=settings.ridge,
  )  # fmt: skip
  result = finite(_outline(settings, data) | _scores(fitted, best, centred, seconds))
  _write_metrics(workdir, fitted, best)
  np.savez(
    workdir / COMPONENTS,
    a_RI=fitted.a_RI, b_RO=fitted.b_RO, mean_I=mean_I, mean_O=mean_O,
  )  # fmt: skip
  write_json(workdir / RESULT, result)
  return result


def _require_same_config(workdir: pathlib.Path, settings: RegressionConfig) -> None:
  """Refuses a workdir that holds another run.

  Raises:
    ValueError: naming the program or the fields that differ.
  """
  if not (workdir / CONFIG).is_file():
    return
  if not is_regression(workdir):
    raise ValueError(
      f"{workdir} holds a run of program 'finetune'; choose another --workdir"
    )
  there = settled(stored_config(config_of(workdir)))
  # How many devices share the work may change from one start to the next.
  require_same_config(workdir, as_dict(settings), as_dict(there), ('devices',))


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
    centred=settings.data.centre,
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
  own, ideal = (
    (one.a_RI[: fitted.active], one.b_RO[: fitted.active]) for one in (fitted, best)
  )
  test = errors_of_prefixes(*own, data.test_x_NI, data.test_y_NO)
  return {
    'rounds': len(fitted.objective_LR),
    'active': fitted.active,
    'converged': fitted.converged,
    'movement': fitted.movement,
    'seconds': seconds,
    'train_error': left_over(*own, data.x_NI, data.y_NO),
    'train_error_exact': left_over(*ideal, data.x_NI, data.y_NO),
    'test_error': test[-1],
    'test_error_of_prefixes': test,
    'distance_to_exact': _distance(fitted, best, data.x_NI),
    'components': COMPONENTS,
    'versions': versions(),
  }


def left_over(
  a_RI: np.ndarray, b_RO: np.ndarray, x_NI: np.ndarray, y_NO: np.ndarray | None
) -> float:
  """||Y - X A^T B||_F^2 / ||Y||_F^2, Y = X where it is None; NaN without examples."""
  y_NO = x_NI if y_NO is None else y_NO
  total = np.sum(np.square(y_NO, dtype=np.float64))
  error_NO = y_NO - latent(x_NI, a_RI) @ b_RO
  return (
    float(np.sum(np.square(error_NO, dtype=np.float64)) / total) if total else np.nan
  )


def errors_of_prefixes(
  a_RI: np.ndarray, b_RO: np.ndarray, x_NI: np.ndarray, y_NO: np.ndarray | None
) -> list[float]:
  """`left_over` by the first 0, 1, ... components."""
  return [left_over(a_RI[:k], b_RO[:k], x_NI, y_NO) for k in range(len(a_RI) + 1)]


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
