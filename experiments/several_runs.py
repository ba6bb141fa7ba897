"""Several runs at once: the round is mapped over a leading axis of seeds and rates.

A small model leaves an accelerator idle; five runs that differ in nothing but seed and
rates take little longer than one, and whatever they are, one program serves them. What
comes out is what `training.train` gives for each, to float tolerance: the same plan,
batches, noise and rounds.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from adapad_jax.lowrank import Deployed, LowRank
from adapad_jax.lowrank.svd import by_singular_values
from adapad_jax.methods import METHODS, Method
from adapad_jax.methods.look import informed
from adapad_jax.training.batches import Order, round_batch, trimmed
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.loop import rounds
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.progress import Progress
from adapad_jax.training.result import adapter_parameters
from adapad_jax.training.session import Session, open_session


@dataclasses.dataclass(frozen=True)
class Run:
  """What sets one of the runs apart.

  Attributes:
    seed: of everything drawn.
    rate: peak rate of the adapters.
    head_rate: peak rate of the head.
  """

  seed: int
  rate: float
  head_rate: float


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What one run came to.

  Attributes:
    metrics: of the final update on the validation rows.
    prefixes: the task's metric of the update cut to 0, 1, ... components a module.
    spectral_prefixes: the same, cut by singular values.
    rank_M: components of each module.
    adapter_parameters: of the update, the head not counted.
  """

  metrics: dict[str, float]
  prefixes: list[float]
  spectral_prefixes: list[float]
  rank_M: list[int]
  adapter_parameters: int


@dataclasses.dataclass(frozen=True)
class Trained:
  """All runs.

  Attributes:
    metric: the task's main metric.
    outcomes: by run, in order; None for one that was not finite.
    steps: rounds of each.
    seconds: of all rounds of all runs but the first, compilation left out.
    head_parameters: trained outside the adapters.
  """

  metric: str
  outcomes: list[Outcome | None]
  steps: int
  seconds: float
  head_parameters: int


def runs_of(config: FinetuneConfig, seeds: Sequence[int]) -> list[Run]:
  """The config's own rates with each seed."""
  rates = config.optimizer.learning_rate, config.head_optimizer.learning_rate
  return [Run(seed, *rates) for seed in seeds]


def train_runs(
  config: FinetuneConfig, runs: Sequence[Run], curves: bool = True
) -> Trained:
  """Trains all runs on one device at once, and scores the final updates.

  Args:
    config: of the runs; its seed, rates, buckets, checkpoints and evaluations are not
      used.
    runs: what differs.
    curves: also score every prefix of every update.

  Raises:
    ValueError: if the weights are drawn by the seed, so that they differ, or the head
      is to train first.
  """
  if config.model.random_weights:
    raise ValueError('model.random_weights: runs trained together share their weights')
  if config.train.head_steps:
    raise ValueError('train.head_steps: runs trained together begin with their rounds')
  plan = make_plan(dataclasses.replace(config, seed=runs[0].seed))
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
    state_Z = _fresh(plan, [run.seed for run in runs])
    state_Z, failed_Z, seconds = _rounds(session, state_Z, runs)
    scorer = _Scorer(session, curves)
    outcomes = []
    for z, failed in enumerate(failed_Z):
      state = plan.method.place(jax.tree.map(lambda x: x[z], state_Z), plan.mesh)  # noqa: B023
      outcomes.append(None if failed >= 0 else scorer.outcome(state))
  return Trained(
    plan.task.metric, outcomes, plan.method.rounds, seconds, plan.head_parameters()
  )


def _fresh(plan: Plan, seeds: Sequence[int]) -> Any:
  """The states before the first round, as runs of those seeds draw them."""
  seeded = lambda s: dataclasses.replace(
    plan, config=dataclasses.replace(plan.config, seed=s)
  )
  heads = {seed: open_session(seeded(seed)).head for seed in dict.fromkeys(seeds)}
  head_Z = jax.tree.map(lambda *x: np.stack(x), *[heads[seed] for seed in seeds])
  draw = lambda seed, head: _bound(plan, seed=seed).init(head)
  return jax.jit(jax.vmap(draw))(np.asarray(seeds, np.uint32), head_Z)


def _bound(plan: Plan, **changes: Any) -> Method:
  """The plan's method with another seed or other optimisers."""
  bind = METHODS[plan.config.method][1]
  return bind(plan.config.settings, dataclasses.replace(plan.method.problem, **changes))


def _rounds(
  session: Session, state_Z: Any, runs: Sequence[Run]
) -> tuple[Any, np.ndarray, float]:
  """All rounds; the states, their failed steps, and seconds after the first round."""
  plan = session.plan
  method, train = plan.method, plan.config.train
  columns = trimmed(plan.task.splits['train'].columns)
  rows = len(columns['mask_BL'])
  orders = [Order(rows, train.batch, run.seed) for run in runs]
  rates_Z = [np.float32([run.rate for run in runs])]
  rates_Z += [np.float32([run.head_rate for run in runs])]
  # A mesh of its own: shard_map cannot close over the rates on explicit axes.
  names = plan.mesh.axis_names
  kinds = (jax.sharding.AxisType.Auto,) * len(names)
  mesh = jax.make_mesh((1,) * len(names), names, kinds, devices=jax.devices()[:1])
  there = jax.NamedSharding(mesh, jax.P())
  with jax.set_mesh(mesh):
    step_Z = _mapped_round(plan, mesh)
    state_Z, params, rates_Z = jax.device_put(
      jax.device_get((state_Z, session.params, rates_Z)), there
    )
    progress, order_B = Progress(state_Z), method.rows(mesh).order_B

    def batch_of(step: int) -> dict[str, jax.Array]:
      cut = (step * method.local_steps, method.local_steps, order_B)
      batches = [round_batch(columns, order, *cut) for order in orders]
      batch_Z = {name: np.stack([b[name] for b in batches]) for name in columns}
      return jax.device_put(batch_Z, there)

    if method.looks:
      look_Z = jax.vmap(method.look(mesh), in_axes=(0, None, 0, None))
      inform_Z = jax.jit(jax.vmap(method.inform))
      progress.state = informed(
        method.looks, look_Z, inform_Z, state_Z, params, batch_of
      )
    advance = lambda state_Z, batch_Z: step_Z(state_Z, params, batch_Z, *rates_Z)
    watchdog, first = session.evaluator.watchdog, {1}.__contains__
    with watchdog.over('the first round'):
      for number, metrics in rounds(
        advance, batch_of, progress, method.rounds, watchdog, pause=first
      ):
        if number == 1:
          started = time.monotonic()
        failed_Z = metrics['failed']
    host = jax.device_get(progress.state)
  return host, failed_Z, time.monotonic() - started


def _mapped_round(plan: Plan, mesh: jax.sharding.Mesh) -> Any:
  """The compiled round of all runs, their rates being data."""
  problem = plan.method.problem

  def once(state: Any, params: Any, batch: Any, rate: Any, head_rate: Any) -> Any:
    method = _bound(
      plan,
      optimizer=problem.optimizer.at_rate(rate),
      head_optimizer=problem.head_optimizer.at_rate(head_rate),
    )
    state, metrics = method.make_round(mesh)(state, params, batch)
    return state, {'failed': metrics['failed']}

  return jax.jit(jax.vmap(once, in_axes=(0, None, 0, 0, 0)), donate_argnums=0)


@dataclasses.dataclass(frozen=True)
class _Scorer:
  """Scores final states; what it compiles serves all of them."""

  session: Session
  curves: bool

  def outcome(self, state: Any) -> Outcome:
    """What the run that ended in this state came to."""
    plan, params = self.session.plan, self.session.params
    method, metric = plan.method, plan.task.metric
    deployed, validation = method.deploy(state), self.session.evaluator.validation
    score = lambda update, k: validation(params, update, k).metrics
    metrics = score(deployed, method.capacity)
    prefixes, spectral = [], []
    if self.curves and deployed.changes is None:
      sorted_ = by_singular_order(plan.modules, deployed)
      cuts = range(method.capacity)
      prefixes = [score(deployed, k)[metric] for k in cuts] + [metrics[metric]]
      spectral = [score(sorted_, k)[metric] for k in cuts] + [metrics[metric]]
    return Outcome(
      metrics=metrics,
      prefixes=prefixes,
      spectral_prefixes=spectral,
      rank_M=method.report(state).rank_M.tolist(),
      adapter_parameters=adapter_parameters(plan, deployed),
    )


@functools.partial(jax.jit, static_argnums=0)
def by_singular_order(modules: tuple[str, ...], deployed: Deployed) -> Deployed:
  """The same update, components by singular value: its best cut of every size."""
  active = {
    name: LowRank(
      deployed.components[name].a_RI,
      deployed.components[name].b_RO * deployed.active_MS[m][:, None],
    )
    for m, name in enumerate(modules)
  }
  ordered = by_singular_values(active)
  return dataclasses.replace(deployed, components=ordered, rescaled=False)
