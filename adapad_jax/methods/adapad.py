"""AdaPaD (arXiv:2605.10741): parallel deflation with rank discovery."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.communication import bytes_sent
from adapad_jax.deflation.deflation import Deflation, limits_of, rounds_of
from adapad_jax.deflation.live import LiveRounds
from adapad_jax.deflation.nesting import doubling
from adapad_jax.deflation.round import make_round
from adapad_jax.deflation.settings import AdaPaDSettings
from adapad_jax.deflation.state import (
  Placed,
  State,
  placed,
  resize,
  saved,
  state_specs,
)
from adapad_jax.lowrank import Deployed, LowRank, init_packed
from adapad_jax.methods.look import gradients, look_over, steepest
from adapad_jax.methods.method import Private, RankReport
from adapad_jax.problem import Problem
from adapad_jax.sharding import WORKER, Rows, laid, put_one


@dataclasses.dataclass(frozen=True)
class AdaPaD:
  """The method bound to a problem; see `Method`."""

  deflation: Deflation

  @property
  def problem(self) -> Problem:
    """What is trained."""
    return self.deflation.problem

  @property
  def settings(self) -> AdaPaDSettings:
    """Resolved for the problem."""
    return self.deflation.settings

  @property
  def rounds(self) -> int:
    """Rounds of the run."""
    return self.deflation.rounds

  @property
  def local_steps(self) -> int:
    """Optimiser steps of a round."""
    return self.settings.local_steps

  @property
  def capacity(self) -> int:
    """Components that a module may have."""
    return self.settings.r_max

  @property
  def parameters(self) -> int:
    """Of all components that there may be."""
    return self.capacity * sum(i + o for i, o in self.problem.shapes.values())

  @property
  def looks(self) -> int:
    """Batches whose gradient the start is made of; 0: it is drawn."""
    return self.settings.gradient_batches

  def look(self, mesh: jax.sharding.Mesh) -> Callable[..., Any]:
    """G of every module, summed over the rows of a batch."""
    observe = functools.partial(gradients, self.problem)
    return look_over(mesh, self.problem, observe, state_specs)

  def inform(self, state: State, sums: dict[str, jax.Array]) -> State:
    """Component k starts along the k-th singular direction of each module's G."""
    return _informed(self.deflation, self.portable(state), sums)

  @property
  def private(self) -> Private | None:
    """Every worker, if feeding is federated."""
    if not self.deflation.feeding.is_private:
      return None
    return Private(self.capacity, self.settings.skew)

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """Shard by shard; in federated feeding over the worker axis too."""
    return self.deflation.feeding.rows(mesh)

  def bytes_sent(self, state: State) -> int:
    """What leaves a worker that has a device to itself."""
    return bytes_sent(self.deflation, state).total

  def init(self, head: Any) -> State:
    """Kaiming or other input directions, zero output directions, rank one each."""
    key = jax.random.fold_in(jax.random.key(self.problem.seed), 1)
    packing, how = self.deflation.packing, self.problem.init
    return self.deflation.init(init_packed(key, packing, self.capacity, how), head)

  def place(self, state: State, mesh: jax.sharding.Mesh) -> Placed:
    """Pads the stacks to a multiple of the worker axis and shards them over it."""
    blocks = mesh.shape[WORKER]
    state = jax.device_get(state)
    state = jax.device_get(resize(state, -(-self.capacity // blocks) * blocks))
    state = placed(state, self.deflation.packing.numbers)
    specs = state_specs(state)
    put = lambda x, spec: put_one(x, jax.NamedSharding(mesh, spec))
    return jax.tree.map(put, state, specs)

  def outline(self, head: Any, mesh: jax.sharding.Mesh) -> Placed:
    """Shapes, dtypes and shardings of a placed state."""
    width = -(-self.capacity // mesh.shape[WORKER]) * mesh.shape[WORKER]
    state = jax.eval_shape(lambda head: resize(self.init(head), width), head)
    state = placed(state, jax.eval_shape(lambda: self.deflation.packing.numbers))
    return laid(state, state_specs(state), mesh)

  def portable(self, state: State) -> State:
    """Cuts the padding off and replicates."""
    return _portable(self.capacity, state)

  def make_round(self, mesh: jax.sharding.Mesh) -> Callable[..., tuple[Placed, dict]]:
    """One broadcast, H local steps of every worker, discovery."""
    return make_round(self.deflation, mesh)

  def live_rounds(self, mesh: jax.sharding.Mesh) -> LiveRounds:
    """The same for as many workers as are live."""
    limits = self.settings.live_buckets or doubling(self.capacity)
    return LiveRounds(self.deflation, mesh, limits)

  def deploy(self, state: State) -> Deployed:
    """The active components of every module, s being part of b."""
    return _deploy(self.deflation, state)

  def report(self, state: State) -> RankReport:
    """Ranks, importance and the ledger of grants."""
    ranks = jax.device_get(state.ranks)
    return RankReport(
      rank_M=ranks.rank_M,
      importance_M=ranks.importance_M,
      uncertainty_M=ranks.uncertainty_M,
      grants=ledger(self.problem.modules, ranks.granted_MR, ranks.score_MR),
    )

  def require_kept(self) -> None:
    """Refuses shares of rows that nobody has, and a budget that may not be spent."""
    self.settings.require_shares(self.problem.batch)
    if not self.problem.begins:
      limits = limits_of(self.settings, self.problem)
      self.settings.require_spent(self.rounds, limits)

  def timeline(self) -> list[tuple[int, int]]:
    """Growth at full speed."""
    return self.settings.timeline(len(self.problem.modules), self.problem.begins)


def ledger(
  modules: tuple[str, ...], granted_MR: np.ndarray, score_MR: np.ndarray
) -> tuple[dict[str, Any], ...]:
  """Who got which component in which round, in order; starting ranks left out.

  What a run starts with, an import's components too, was granted in round 0, in which
  nothing is allocated. Rounds count from one here, as in logs: the component is there
  after that round.
  """
  entries = [
    {
      'round': int(granted_MR[m, k]) + 1,
      'module': name,
      'component': k + 1,
      'score': float(score_MR[m, k]),
    }
    for m, name in enumerate(modules)
    for k in range(granted_MR.shape[1])
    if granted_MR[m, k] > 0
  ]
  return tuple(sorted(entries, key=lambda entry: (entry['round'], -entry['score'])))


def build(settings: AdaPaDSettings, problem: Problem) -> AdaPaD:
  """Binds settings to a problem.

  Raises:
    ValueError: if the budget cannot be spent within the run, or batches cannot be
      shared among the workers.
  """
  modules, rounds = len(problem.shapes), rounds_of(settings, problem)
  limits, begins = limits_of(settings, problem), problem.begins
  resolved = settings.resolve(modules, rounds, problem.batch, begins, sum(limits))
  resolved.check(modules, rounds, begins, limits)
  return AdaPaD(Deflation(problem, resolved))


@functools.partial(jax.jit, static_argnums=0)
def _portable(capacity: int, state: State) -> State:
  return resize(jax.reshard(saved(state), jax.P()), capacity)


@functools.partial(jax.jit, static_argnums=0)
def _informed(deflation: Deflation, state: State, sums: dict[str, jax.Array]) -> State:
  packing = deflation.packing
  started = steepest(packing.unpack(state.stack_RMP), sums)
  return dataclasses.replace(state, stack_RMP=packing.pack(started))


def _deploy(deflation: Deflation, state: State) -> Deployed:
  """One small program for modules of a shape: a single one of them all would have as
  many kernels as modules, and take as long to compile as a round.
  """
  packing, scale = deflation.packing, deflation.problem.scale
  stack_SMP, active_MS, head, numbers = _shared(deflation, state)
  components = {
    name: _of_module(shape, scale, stack_SMP, m)
    for name, shape, m in zip(packing.modules, packing.shapes, numbers, strict=True)
  }
  return Deployed(components, active_MS, head)


@functools.partial(jax.jit, static_argnums=0)
def _shared(deflation: Deflation, state: State) -> tuple[Any, ...]:
  """Components, which of them are active, the head, numbers of modules; everywhere."""
  stack_SMP, ranks, head = jax.reshard(
    (state.stack_RMP, state.ranks, state.head), jax.P()
  )
  active_MS, _ = deflation.masks(ranks, stack_SMP.shape[0])
  return stack_SMP, active_MS, head, [jnp.int32(m) for m in range(len(active_MS))]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _of_module(
  shape: tuple[int, int], scale: float, stack_SMP: jax.Array, m: jax.Array
) -> LowRank:
  i, o = shape
  row_SP = jax.lax.dynamic_index_in_dim(stack_SMP, m, 1, keepdims=False)
  return LowRank(row_SP[:, :i], row_SP[:, i : i + o]).scaled(scale)
