"""LAPACK, one matrix at a time: the only place that calls it in compiled programs.

On the CPU, jaxlib 0.10.2 cuts a batch of matrices into parts, hands all of them to the
pool of threads that the call itself runs in, and blocks until they are done
(`jax::ParallelBatchMap` in jaxlib/cpu/lapack_kernels.cc). As many such calls at once as
the pool has threads, and none is left for the parts: the program never ends. Groups of
one program run at once, and so does one program on several devices, which share the
pool. A call for one matrix is one part and runs where it is, so that any number of
those may be in flight. With jaxlib 0.12.0 nothing stood still.

So each function here takes a single matrix, and `jax.vmap` of it is a loop, on every
kind of device. What is factorised here has no reverse-mode derivative.

Axes: M, N of a matrix, K = min(M, N).
"""

import functools

import jax
import jax.numpy as jnp

_one_by_one = jax.custom_batching.sequential_vmap
_qr = _one_by_one(lambda x_MN: tuple(jnp.linalg.qr(x_MN)))
_eigh = _one_by_one(lambda x_NN: tuple(jnp.linalg.eigh(x_NN)))
_cholesky = _one_by_one(jnp.linalg.cholesky)


def qr(x_MN: jax.Array) -> tuple[jax.Array, jax.Array]:
  """X = Q R: (Q (M, K) with orthonormal columns, R (K, N) upper triangular).

  Raises:
    ValueError: for more or less than one matrix, as all functions here.
  """
  return _qr(_single(x_MN))


def svd(
  x_MN: jax.Array, full_matrices: bool = False
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """X = U diag(s) V^T: (U (M, K), s (K,) descending, V^T (K, N)).

  Args:
    x_MN: the matrix.
    full_matrices: complete U to (M, M) and V^T to (N, N).
  """
  return _svd(full_matrices)(_single(x_MN))


def eigh(x_NN: jax.Array) -> tuple[jax.Array, jax.Array]:
  """X = V diag(w) V^T of a symmetric X: (w (N,) ascending, V (N, N))."""
  return _eigh(_single(x_NN))


def cholesky(x_NN: jax.Array) -> jax.Array:
  """The lower L with X = L L^T of a positive X; NaN if X is not positive."""
  return _cholesky(_single(x_NN))


def is_regular(lower_NN: jax.Array) -> jax.Array:
  """Whether a matrix with this Cholesky factor is far enough from a singular one."""
  size, eps = len(lower_NN), jnp.finfo(lower_NN.dtype).eps
  pivot_N = jnp.square(jnp.diag(lower_NN))
  return pivot_N.min() > 10 * size * eps * pivot_N.max()  # False for NaN


def solve_lower(
  lower_MM: jax.Array, x_MN: jax.Array, transposed: bool = False
) -> jax.Array:
  """L^-1 X, or L^-T X if `transposed`, of a lower triangular L."""
  return _solve_lower(transposed)(_single(lower_MM), _single(x_MN))


def row_signs(x_RN: jax.Array) -> jax.Array:
  """The sign of the largest entry of every row, (R, 1).

  Singular and eigenvectors have no sign; without one chosen, meshes may differ.
  """
  peak_R1 = jnp.argmax(jnp.abs(x_RN), axis=1, keepdims=True)
  return jnp.sign(jnp.take_along_axis(x_RN, peak_R1, axis=1))


@functools.cache
def _svd(full_matrices: bool) -> jax.custom_batching.custom_vmap:
  svd = functools.partial(jnp.linalg.svd, full_matrices=full_matrices)
  return _one_by_one(lambda x_MN: tuple(svd(x_MN)))


@functools.cache
def _solve_lower(transposed: bool) -> jax.custom_batching.custom_vmap:
  trans = 'T' if transposed else 'N'
  return _one_by_one(
    functools.partial(jax.scipy.linalg.solve_triangular, lower=True, trans=trans)
  )


def _single(x_MN: jax.Array) -> jax.Array:
  if x_MN.ndim != 2:
    raise ValueError(
      f'one matrix at a time, got shape {x_MN.shape}; call it by jax.lax.map'
    )
  return x_MN
