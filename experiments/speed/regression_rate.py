"""A round's floating-point rate, and its time on one device and on two."""

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax import sharding
from adapad_jax.regression import Power, Schedule, program
from adapad_jax.regression.moments import einsum
from adapad_jax.regression.rounds import Reference
from adapad_jax.regression.schedule import perfect_traffic
from experiments import hlo, processes
from experiments.speed.regression_problem import known


def flops_of_round(size: int, rank: int, local_steps: int) -> int:
  """Multiplications and additions of a round's matrix products.

  A step takes two products of (r, d) with (d, d), and four of r x r with r x d for
  the predecessors; the record of a round, eight more of the latter kind.
  """
  step = 2 * 2 * rank * size * size + 4 * 2 * rank * rank * size
  return local_steps * step + 4 * 2 * rank * rank * size


@functools.partial(jax.jit, static_argnames='count')
def bare(x_RI: jax.Array, k_II: jax.Array, count: int) -> jax.Array:
  """x K K ... K."""
  step = lambda _, x_RI: einsum('ri,ij->rj', x_RI, k_II)
  return jax.lax.fori_loop(0, count, step, x_RI)


def timed(function: Callable[[], Any]) -> float:
  """Seconds that one call takes until its results are there."""
  start = time.perf_counter()
  jax.block_until_ready(function())
  return time.perf_counter() - start


class Round:
  """Rounds of `Power` on one mesh, ready to be timed."""

  def __init__(
    self, size: int, rank: int, local_steps: int, rounds: int, devices: int
  ) -> None:
    moments = known(size, rank, 0.1).moments
    schedule = Schedule(rounds=rounds, local_steps=local_steps, activation='together')
    self.plan = program.ProgramSpec(
      Power(), schedule, rank, sharding.make_mesh(devices)
    )
    everywhere = jax.NamedSharding(self.plan.mesh, jax.P())
    moments = jax.device_put(moments, everywhere)
    self.problem = program.prepare(moments, self.plan.solver)
    self.reference = Reference(moments.yy, np.float32(0))
    self.traffic = perfect_traffic(rounds, rank)
    self._progress = program.begin(self.problem, 0, self.plan)

  def __call__(self) -> Any:
    """All rounds, from where the last call ended."""
    self._progress, history = program.advance(
      self.problem, self.reference, self.traffic, self._progress, self.plan
    )
    return history

  def compiled(self) -> str:
    """The compiled program."""
    args = self.problem, self.reference, self.traffic, self._progress, self.plan
    return program.advance.lower(*args).compile().as_text()


def measure(
  size: int = 1024,
  rank: int = 64,
  local_steps: int = 5,
  rounds: int = 4,
  repeats: int = 25,
) -> dict[str, float]:
  """Rates in GFLOP/s, the best of interleaved repeats, and their ratio."""
  ours = Round(size, rank, local_steps, rounds, devices=1)
  count = 2 * local_steps * rounds
  draw = np.random.default_rng(0)
  x_RI = jnp.asarray(draw.normal(size=(rank, size)), jnp.float32)
  k_II = jnp.asarray(np.linalg.qr(draw.normal(size=(size, size)))[0], jnp.float32)
  product = lambda: bare(x_RI, k_II, count)
  timed(ours), timed(product)  # compile
  pairs = np.array([(timed(ours), timed(product)) for _ in range(repeats)])
  ours_s, bare_s = pairs.min(0)
  ours_rate = rounds * flops_of_round(size, rank, local_steps) / ours_s / 1e9
  bare_rate = count * 2 * rank * size * size / bare_s / 1e9
  return {
    'round': ours_rate,
    'product': bare_rate,
    'ratio': ours_rate / bare_rate,
  }


def pinned(devices: int, size: int, rank: int, local_steps: int, repeats: int) -> float:
  """Seconds a round, the best of some, in a process that gets a core for each device.

  JAX must not have counted the cores yet.
  """
  cores = sorted(os.sched_getaffinity(0))[:devices]
  os.sched_setaffinity(0, cores)
  jax.config.update('jax_num_cpu_devices', devices)
  rounds = 4
  ours = Round(size, rank, local_steps, rounds, devices)
  timed(ours)
  return min(timed(ours) for _ in range(repeats)) / rounds


def compare(
  size: int, rank: int, local_steps: int, repeats: int = 15, turns: int = 3
) -> dict[str, float]:
  """Best seconds a round of one and of two devices, taking turns.

  Beside them `half`: one device with half the workers, which has nobody to wait for.
  """
  sides = {'one': (1, rank), 'two': (2, rank), 'half': (1, rank // 2)}
  seconds = {name: np.inf for name in sides}
  for _ in range(turns):
    for name, (devices, workers) in sides.items():
      took = processes.call(pinned, devices, size, workers, local_steps, repeats)
      seconds[name] = min(seconds[name], took)
  return seconds


def collectives(size: int, rank: int, local_steps: int, devices: int) -> list[Any]:
  """Collectives of the compiled rounds; see `hlo.collectives`."""
  jax.config.update('jax_num_cpu_devices', devices)
  ours = Round(size, rank, local_steps, rounds=2, devices=devices)
  return hlo.collectives(ours.compiled())
