"""Data with known components, for experiments and first steps."""

import difflib

import numpy as np


def exponential(rank: int, gap: float) -> np.ndarray:
  """sigma_k = (1 - gap)^k: the same relative gap between all neighbours."""
  return (1 - gap) ** np.arange(rank)


def power_law(rank: int, exponent: float) -> np.ndarray:
  """sigma_k = (k + 1)^-exponent: gaps that shrink with k."""
  return (1.0 + np.arange(rank)) ** -exponent


SPECTRA = {'exponential': exponential, 'power_law': power_law}


def spectrum(kind: str, rank: int, value: float) -> np.ndarray:
  """Singular values by name.

  Raises:
    ValueError: for an unknown name.
  """
  if kind not in SPECTRA:
    close = difflib.get_close_matches(kind, SPECTRA)
    hint = f'; did you mean {close[0]!r}?' if close else ''
    raise ValueError(f'spectrum={kind!r} is not one of {sorted(SPECTRA)}{hint}')
  return SPECTRA[kind](rank, value)


def orthonormal(draw: np.random.Generator, rows: int, columns: int) -> np.ndarray:
  """A random (rows, columns) matrix with orthonormal columns."""
  return np.linalg.qr(draw.normal(size=(rows, columns)))[0]


def weights(
  sigma_R: np.ndarray, inputs: int, outputs: int, draw: np.random.Generator
) -> np.ndarray:
  """A random W, (O, I), with these singular values."""
  left_OR = orthonormal(draw, outputs, len(sigma_R))
  return (left_OR * sigma_R) @ orthonormal(draw, inputs, len(sigma_R)).T


def exact_design(
  sigma_R: np.ndarray,
  count: int,
  inputs: int,
  outputs: int,
  seed: int,
  condition: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Inputs and noise-free outputs whose fitted singular values are exactly sigma.

  Args:
    sigma_R: singular values of Y = W X.
    count: examples, at least as many as inputs.
    inputs: inputs.
    outputs: outputs.
    seed: of everything random.
    condition: condition number of X.
  """
  draw = np.random.default_rng(seed)
  white_NI = orthonormal(draw, count, inputs)
  y_NO = white_NI @ weights(sigma_R, inputs, outputs, draw).T
  mix_II = orthonormal(draw, inputs, inputs) * np.geomspace(1, 1 / condition, inputs)
  return white_NI @ mix_II, y_NO


def gaussian_design(
  w_OI: np.ndarray, count: int, noise: float, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Standard normal inputs, and outputs with Gaussian noise of this deviation."""
  x_NI = draw.normal(size=(count, w_OI.shape[1]))
  return x_NI, x_NI @ w_OI.T + noise * draw.normal(size=(count, w_OI.shape[0]))
