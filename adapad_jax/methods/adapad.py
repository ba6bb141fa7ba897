"""AdaPaD (arXiv:2605.10741): parallel deflation with rank discovery."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
import numpy as np

from adapad_jax.deflation.components import Component
from adapad_jax.deflation.deployed import Deployed
from adapad_jax.deflation.discovery import SCORES, Discovery
from adapad_jax.deflation.feeding import MODES, SHARES, Feeding, Rows
from adapad_jax.deflation.initialize import init_components
from adapad_jax.deflation.layout import Layout
from adapad_jax.deflation.live import LiveRounds, doubling
from adapad_jax.deflation.round import HEAD_ROWS, Deflation, make_round
from adapad_jax.deflation.state import WORKER, State, resize, state_specs
from adapad_jax.deflation.traffic import traffic
from adapad_jax.methods.method import Private, Problem, RankReport
from adapad_jax.ranges import Count, Fraction, Natural, NonNegative, OneOf
from adapad_jax.settings import check
from adapad_jax.sharding import laid, put_one


@dataclasses.dataclass(frozen=True)
class AdaPaDSettings:
  """Settings of AdaPaD. A zero stands for what is derived from the run's length.

  Attributes:
    budget: components over all modules; 0 means twice the number of modules.
    r_max: the most components of one module, and the number of workers.
    start: rounds before the first allocation; 0 means a tenth of the run.
    interval: rounds between allocations; 0 spreads them up to half of the run.
    grants: components given out in one allocation; 0 makes about ten allocations, or
      as many as half of the run has room for.
    beta1, beta2, score, advance, stop_ratio, stop_patience: see `Discovery`.
    feeding: 'split', 'replicate' or 'federated', see `Feeding`.
    skew: of `federated`: 0 gives every worker as many rows, by index; else labels are
      spread by a Dirichlet distribution with this parameter, small being uneven.
    shares: 'equal' or 'first', see `Feeding`.
    joint: fraction of a batch that trains the whole update at once, see `Feeding`.
    polish: fraction of the run, at its end, in which all rows do, see `Feeding`.
    local_steps: optimiser steps between broadcasts, H.
    head_rows: 'last' or 'all', see `Deflation`.
    live_buckets: numbers of live workers up to which a round of its own is compiled,
      beside r_max; empty means 1, 2, 4, ...
  """

  budget: Natural = 0
  r_max: Count = 4
  start: Natural = 0
  interval: Natural = 0
  grants: Natural = 0
  beta1: Fraction = 0.85
  beta2: Fraction = 0.85
  score: Annotated[str, OneOf(SCORES)] = 'product'
  advance: bool = True
  stop_ratio: Fraction = 0.0
  stop_patience: Count = 3
  feeding: Annotated[str, OneOf(MODES)] = 'split'
  skew: NonNegative = 0.0
  shares: Annotated[str, OneOf(SHARES)] = 'equal'
  joint: Fraction = 0.0
  polish: Fraction = 0.0
  local_steps: Count = 1
  head_rows: Annotated[str, OneOf(HEAD_ROWS)] = 'last'
  live_buckets: tuple[Count, ...] = ()

  def __post_init__(self) -> None:
    check(self, 'adapad')
    if self.skew and self.feeding != 'federated':
      raise ValueError(
        f"adapad.skew is {self.skew}; must be 0 unless adapad.feeding is 'federated'"
      )

  def discovery(self, modules: int, rounds: int) -> Discovery:
    """The schedule of growth for so many modules and rounds, every zero filled in."""
    budget = self.budget or 2 * modules
    start = self.start or max(rounds // 10, 1)
    # Few rounds, as with many local steps, have room for fewer allocations.
    room = max(min(10, rounds // 2 - start), 1)
    grants = self.grants or max(-(-(budget - modules) // room), 1)
    events = -(-(budget - modules) // grants)
    interval = self.interval or max((rounds // 2 - start) // max(events, 1), 1)
    return Discovery(
      budget=budget,
      r_max=self.r_max,
      start=start,
      interval=interval,
      grants=grants,
      beta1=self.beta1,
      beta2=self.beta2,
      score=self.score,
      advance=self.advance,
      stop_ratio=self.stop_ratio,
      stop_patience=self.stop_patience,
    )


@dataclasses.dataclass(frozen=True)
class AdaPaD:
  """The method bound to a problem; see `Method`."""

  problem: Problem
  deflation: Deflation
  live_buckets: tuple[int, ...] = ()
  skew: float = 0.0

  @property
  def rounds(self) -> int:
    """Rounds of the run."""
    return self.deflation.rounds

  @property
  def local_steps(self) -> int:
    """Optimiser steps of a round."""
    return self.deflation.local_steps

  @property
  def capacity(self) -> int:
    """Components that a module may have."""
    return self.deflation.discovery.r_max

  @property
  def private(self) -> Private | None:
    """Every worker, if feeding is federated."""
    if self.deflation.feeding.mode != 'federated':
      return None
    return Private(self.capacity, self.skew)

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """Shard by shard; in federated feeding over the worker axis too."""
    return self.deflation.feeding.rows(mesh)

  def bytes_sent(self, state: State) -> int:
    """What leaves a worker that has a device to itself."""
    return traffic(self.deflation, state).total

  def init(self, head: Any) -> State:
    """Kaiming or other input directions, zero output directions, rank one each."""
    key = jax.random.fold_in(jax.random.key(self.problem.seed), 1)
    components = init_components(
      key, self.problem.shapes, self.capacity, self.problem.init
    )
    return self.deflation.init(components, head, self.problem.seed)

  def place(self, state: State, mesh: jax.sharding.Mesh) -> State:
    """Pads the stacks to a multiple of the worker axis and shards them over it."""
    blocks = mesh.shape[WORKER]
    state = jax.device_get(state)
    state = jax.device_get(resize(state, -(-self.capacity // blocks) * blocks))
    specs = state_specs(state)
    put = lambda x, spec: put_one(x, jax.NamedSharding(mesh, spec))
    return jax.tree.map(put, state, specs)

  def outline(self, head: Any, mesh: jax.sharding.Mesh) -> State:
    """Shapes, dtypes and shardings of a placed state."""
    width = -(-self.capacity // mesh.shape[WORKER]) * mesh.shape[WORKER]
    state = jax.eval_shape(lambda head: resize(self.init(head), width), head)
    return laid(state, state_specs(state), mesh)

  def portable(self, state: State) -> State:
    """Cuts the padding off and replicates."""
    return _portable(self.capacity, state)

  def make_round(self, mesh: jax.sharding.Mesh) -> Callable[..., tuple[State, dict]]:
    """One broadcast, H local steps of every worker, discovery."""
    return make_round(self.deflation, mesh)

  def live_rounds(self, mesh: jax.sharding.Mesh) -> LiveRounds:
    """The same for as many workers as are live."""
    return LiveRounds(self.deflation, mesh, self.live_buckets)

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

  def timeline(self) -> list[tuple[int, int]]:
    """Growth at full speed, rounds counted from one."""
    first, *later = self.deflation.discovery.timeline(len(self.problem.modules))
    return [first, *((when + 1, total) for when, total in later)]


def ledger(
  modules: tuple[str, ...], granted_MR: np.ndarray, score_MR: np.ndarray
) -> tuple[dict[str, Any], ...]:
  """Who got which component in which round, in order; starting ranks left out.

  Rounds count from one here, as in logs: the component is there after that round.
  """
  entries = [
    {
      'round': int(granted_MR[m, k]) + 1,
      'module': name,
      'component': k + 1,
      'score': float(score_MR[m, k]),
    }
    for m, name in enumerate(modules)
    for k in range(1, granted_MR.shape[1])
    if granted_MR[m, k] >= 0
  ]
  return tuple(sorted(entries, key=lambda entry: (entry['round'], -entry['score'])))


def build(settings: AdaPaDSettings, problem: Problem) -> AdaPaD:
  """Binds settings to a problem.

  Raises:
    ValueError: if the budget cannot be spent within the run, or a setting is unknown.
  """
  modules = len(problem.shapes)
  rounds = max(problem.steps // settings.local_steps, 1)
  discovery = settings.discovery(modules, rounds)
  discovery.check(modules, rounds)
  feeding = Feeding(
    settings.feeding,
    settings.shares,
    settings.joint,
    settings.polish,
    settings.r_max,
    problem.batch,
  )
  deflation = Deflation(
    layout=Layout.of(problem.shapes),
    loss=problem.loss,
    discovery=discovery,
    feeding=feeding,
    optimizer=problem.optimizer,
    head_optimizer=problem.head_optimizer,
    rounds=rounds,
    scale=problem.scale,
    local_steps=settings.local_steps,
    head_rows=settings.head_rows,
    accumulate=problem.accumulate,
  )
  buckets = settings.live_buckets or doubling(settings.r_max)
  return AdaPaD(problem, deflation, buckets, settings.skew)


@functools.partial(jax.jit, static_argnums=0)
def _portable(capacity: int, state: State) -> State:
  return resize(jax.reshard(state, jax.P()), capacity)


@functools.partial(jax.jit, static_argnums=0)
def _deploy(deflation: Deflation, state: State) -> Deployed:
  stack_SMP, ranks, head = jax.reshard(
    (state.stack_RMP, state.ranks, state.head), jax.P()
  )
  active_MS, _ = deflation.masks(ranks, stack_SMP.shape[0])
  everyone = deflation.layout.unstack(stack_SMP)
  scaled = {
    name: Component(c.a_RI, deflation.scale * c.b_RO) for name, c in everyone.items()
  }
  return Deployed(scaled, active_MS, head)
