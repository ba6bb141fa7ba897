"""Where a run's examples come from: one's own files, or planted."""

import dataclasses
import pathlib

import numpy as np

from adapad_jax.regression import planted
from adapad_jax.regression.checks import checked
from adapad_jax.regression.config import DataConfig, RegressionConfig
from adapad_jax.regression.fit import precision


@dataclasses.dataclass(frozen=True)
class Split:
  """Rows to train and to test on; y is None for principal components."""

  x_NI: np.ndarray
  y_NO: np.ndarray | None
  test_x_NI: np.ndarray
  test_y_NO: np.ndarray | None


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
  file = pathlib.Path(path).expanduser()
  if file.suffix not in ('.npy', '.csv', '.tsv'):
    raise ValueError(f'{where}={path!r} must end in .npy, .csv or .tsv')
  if not file.is_file():
    raise ValueError(f'{where}={path!r} is not a file')
  try:
    if file.suffix == '.npy':
      values = np.load(file, allow_pickle=False)
    else:
      _refuse_gaps(file)
      separator = ',' if file.suffix == '.csv' else '\t'
      values = np.loadtxt(
        file, delimiter=separator, ndmin=2, comments=None, encoding='utf-8-sig'
      )
  except ValueError as error:
    raise ValueError(f'{where}={path!r} cannot be read as numbers: {error}') from error
  if values.dtype.kind not in 'fiub':
    raise ValueError(f'{where}={path!r} holds {values.dtype}, not real numbers')
  return values[:, None] if values.ndim == 1 else values


def _refuse_gaps(file: pathlib.Path) -> None:
  """Blank lines would be skipped, and what follows would move to another row."""
  with file.open('rb') as lines:
    blank = 0
    for number, line in enumerate(lines, start=1):
      if blank and line.strip():
        raise ValueError(f'line {blank} is blank; fill or drop that row')
      if not blank and not line.strip():
        blank = number
    if blank == 1 or not lines.tell():
      raise ValueError('it is empty')


def _plant(
  data: DataConfig, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Gaussian inputs and W of the wanted spectrum; for `pca` the outputs are inputs."""
  sigma_R = planted.spectrum(data.spectrum, data.rank, data.decay)
  w_OI = planted.weights(sigma_R, data.inputs, data.outputs, draw)
  x_NI, y_NO = planted.gaussian_design(w_OI, data.examples, data.noise, draw)
  return (y_NO, y_NO) if data.pca else (x_NI, y_NO)


def centre(data: Split, on: bool) -> tuple[Split, np.ndarray, np.ndarray]:
  """The data less the means of the training rows, and those means; zero if not `on`."""
  y_NO = data.x_NI if data.y_NO is None else data.y_NO
  mean = lambda z_NX: z_NX.mean(0) if on else np.zeros_like(z_NX[0])
  mean_I, mean_O = mean(data.x_NI), mean(y_NO)
  return less(data, mean_I, mean_O), mean_I, mean_O


def less(data: Split, mean_I: np.ndarray, mean_O: np.ndarray) -> Split:
  """The data less given means."""
  minus = lambda z_NX, mean_X: None if z_NX is None else z_NX - mean_X
  return Split(
    minus(data.x_NI, mean_I),
    minus(data.y_NO, mean_O),
    minus(data.test_x_NI, mean_I),
    minus(data.test_y_NO, mean_O),
  )
