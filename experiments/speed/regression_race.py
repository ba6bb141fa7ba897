"""Time to a relative error: rounds, the NumPy loop, randomised SVD."""

import time
from collections.abc import Iterator

import jax
import numpy as np
from scipy.linalg import solve_triangular
from sklearn.utils.extmath import randomized_svd

from adapad_jax import sharding
from adapad_jax.regression import Power, Schedule, program
from adapad_jax.regression.rounds import Reference
from adapad_jax.regression.schedule import perfect_traffic
from experiments.speed.regression_problem import Known

# The SVD of float32 stops a little above 1e-6 at r = 64: hence the first of the two.
TARGETS = (1e-5, 1e-6)
# Of 1, 2 and 5 the number with the least time for ours at d = 256 and r = 64.
LOCAL_STEPS = 2


def rounds_of_ours(problem: Known, chunk: int) -> Iterator[tuple[float, float]]:
  """Whitening and rounds in chunks: seconds so far, without checks, and the error."""
  rank = problem.left_OR.shape[1]
  schedule = Schedule(rounds=chunk, local_steps=LOCAL_STEPS)
  plan = program.ProgramSpec(Power(), schedule, rank, sharding.make_mesh())
  moments = jax.device_put(problem.moments)
  reference = Reference(moments.yy, np.float32(0))
  traffic = perfect_traffic(chunk, rank)
  spent = 0.0
  for warm in (True, False):  # the first pass compiles
    start = time.perf_counter()
    prepared = program.prepare(moments, plan.solver)
    progress = program.begin(prepared, 0, plan)
    jax.block_until_ready(progress)
    spent = time.perf_counter() - start
    if warm:
      progress, _ = program.advance(prepared, reference, traffic, progress, plan)
      program.newest(prepared, progress.kept, plan.solver, rank)
  while True:
    start = time.perf_counter()
    progress, _ = program.advance(prepared, reference, traffic, progress, plan)
    jax.block_until_ready(progress)
    spent += time.perf_counter() - start
    start = time.perf_counter()  # the way back is taken once, by the last chunk
    own = program.newest(prepared, progress.kept, plan.solver, rank)
    own = sharding.fetch(own)
    yield spent + time.perf_counter() - start, problem.error(own.a_RI, own.b_RO)


def whiten(problem: Known) -> tuple[np.ndarray, np.ndarray]:
  """C L^-T and L by NumPy and SciPy."""
  lower_II = np.linalg.cholesky(problem.moments.s_II)
  k_OI = solve_triangular(lower_II, problem.moments.c_OI.T, lower=True).T
  return np.ascontiguousarray(k_OI), lower_II


def original(lower_II: np.ndarray, w_RI: np.ndarray) -> np.ndarray:
  """a = L^-T w."""
  return solve_triangular(lower_II, w_RI.T, lower=True, trans='T').T


def numpy_loop(problem: Known) -> Iterator[tuple[float, float]]:
  """One worker after another in every round, targets formed in full.

  Worker k joins at round k: if all joined at once, those late in the line would
  deflate many times by the same first component, and the excess, which grows from
  round to round before it dies down, overflows float32 in round 9 at r = 64.
  """
  rank = problem.left_OR.shape[1]
  start = time.perf_counter()
  k_OI, lower_II = whiten(problem)
  a_RI = program.draw_start(0, rank, k_OI.shape[1]).astype(np.float32)
  b_RO = np.zeros((rank, k_OI.shape[0]), np.float32)
  spent, active = time.perf_counter() - start, 0
  while True:
    start = time.perf_counter()
    seen_a_RI, seen_b_RO = a_RI.copy(), b_RO.copy()
    target_OI = k_OI.copy()
    for k in range(rank):
      for _ in range(LOCAL_STEPS):
        b_O = target_OI @ a_RI[k]
        b_RO[k] = b_O / np.linalg.norm(b_O)
        a_RI[k] = b_RO[k] @ target_OI
      if k < active:
        target_OI -= np.outer(seen_b_RO[k], seen_a_RI[k])
    active += 1
    spent += time.perf_counter() - start
    yield spent, problem.error(original(lower_II, a_RI), b_RO)


def randomised(problem: Known) -> Iterator[tuple[float, float]]:
  """Whitening and scikit-learn's randomised SVD, each row with more iterations."""
  rank = problem.left_OR.shape[1]
  whiten(problem)  # the first call of all takes longer
  for iterations in (2, 4, 6, 8, 10, 14, 20):
    start = time.perf_counter()
    k_OI, lower_II = whiten(problem)
    left_OR, sigma_R, right_RI = randomized_svd(
      k_OI, rank, n_iter=iterations, random_state=0
    )
    a_RI = original(lower_II, sigma_R[:, None] * right_RI)
    yield time.perf_counter() - start, problem.error(a_RI, left_OR.T)


def run_until(
  rows: Iterator[tuple[float, float]], limit_s: float
) -> list[tuple[float, float]]:
  """The rows up to the one that meets the last target, or until the time is up."""
  begun, taken = time.perf_counter(), []
  for row in rows:
    taken.append(row)
    if row[1] <= min(TARGETS) or time.perf_counter() - begun > limit_s:
      break
  return taken


def reached(rows: list[tuple[float, float]], target: float) -> float | None:
  """Seconds until the error was at most this, None if it never was."""
  return next((spent for spent, error in rows if error <= target), None)
