"""Several seeds of one run at once: the round is mapped over a leading axis of seeds.

A small model leaves an accelerator idle; five runs that differ in nothing but the seed
take little longer than one. What comes out is what `training.train` gives for each
seed, to float tolerance: the same plan, batches, noise and rounds.
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.components import Component
from adapad_jax.deflation.deployed import Deployed
from adapad_jax.methods import METHODS
from adapad_jax.methods.spectral import by_singular_values
from adapad_jax.sharding import DATA, put
from adapad_jax.training.batches import Order, round_batch, trimmed
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.result import adapter_parameters
from adapad_jax.training.session import Session, open_session

# Rounds that may be dispatched ahead of the device.
_AHEAD = 20


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What one seed came to.

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
  """All seeds of a run.

  Attributes:
    metric: the task's main metric.
    outcomes: by seed.
    steps: rounds of each.
    seconds: of all rounds of all seeds but the first, compilation left out.
    head_parameters: trained outside the adapters.
  """

  metric: str
  outcomes: dict[int, Outcome]
  steps: int
  seconds: float
  head_parameters: int


def train_seeds(
  config: FinetuneConfig, seeds: Sequence[int], curves: bool = True
) -> Trained:
  """Trains every seed on one device, all at once, and scores the final updates.

  Args:
    config: of the run; its seed, buckets, checkpoints and evaluations are not used.
    seeds: to run.
    curves: also score every prefix of every update.

  Raises:
    ValueError: if the weights are drawn by the seed, so that they differ.
    FloatingPointError: if a loss or a gradient was not finite.
  """
  if config.model.random_weights:
    raise ValueError('model.random_weights: seeds trained together share their weights')
  plans = _plans(config, seeds)
  plan = plans[0]
  with jax.set_mesh(plan.mesh):
    sessions = [open_session(one) for one in plans]
    session = sessions[0]
    fresh = lambda s: jax.jit(s.plan.method.init)(s.head)
    placed = [s.plan.method.place(fresh(s), plan.mesh) for s in sessions]
    state_Z = jax.tree.map(lambda *x: jnp.stack(x), *placed)
    state_Z, seconds = _rounds(plan, session, state_Z, seeds)
    outcomes = {}
    for z, seed in enumerate(seeds):
      state = plan.method.place(jax.tree.map(lambda x: x[z], state_Z), plan.mesh)  # noqa: B023
      outcomes[seed] = _outcome(session, state, curves)
  return Trained(
    plan.task.metric, outcomes, plan.method.rounds, seconds, plan.head_parameters()
  )


def _plans(config: FinetuneConfig, seeds: Sequence[int]) -> list[Plan]:
  """One plan for each seed, data read once."""
  config = dataclasses.replace(config, seed=seeds[0])
  first = make_plan(config)
  bind = METHODS[config.method][1]
  problem = first.method.problem
  return [
    dataclasses.replace(
      first,
      config=dataclasses.replace(config, seed=seed),
      method=bind(config.settings, dataclasses.replace(problem, seed=seed)),
    )
    for seed in seeds
  ]


def _rounds(
  plan: Plan, session: Session, state_Z: Any, seeds: Sequence[int]
) -> tuple[Any, float]:
  """All rounds; returns the states and the seconds after the first round."""
  method, train = plan.method, plan.config.train
  columns = trimmed(plan.task.splits['train'].columns)
  rows = len(columns['mask_BL'])
  orders = [Order(rows, train.batch, seed) for seed in seeds]
  once = method.make_round(plan.mesh)
  step_Z = jax.jit(jax.vmap(once, in_axes=(0, None, 0)), donate_argnums=0)
  started, recent = time.monotonic(), []
  for step in range(method.rounds):
    first = step * method.local_steps
    cut = (method.local_steps, plan.mesh.shape[DATA])
    batches = [round_batch(columns, order, first, *cut) for order in orders]
    batch_Z = {name: np.stack([b[name] for b in batches]) for name in columns}
    state_Z, metrics = step_Z(
      state_Z, session.params, put(batch_Z, jax.P(None, None, DATA))
    )
    recent = [*recent[-_AHEAD:], metrics['failed']]
    jax.block_until_ready(recent[0])
    if step == 0:
      jax.block_until_ready(state_Z)
      started = time.monotonic()
  failed_Z = np.asarray(metrics['failed'])
  if (failed_Z >= 0).any():
    broken = {s: int(f) for s, f in zip(seeds, failed_Z, strict=True) if f >= 0}
    raise FloatingPointError(f'not finite, first round by seed: {broken}')
  jax.block_until_ready(state_Z)
  return jax.device_get(state_Z), time.monotonic() - started


def _outcome(session: Session, state: Any, curves: bool) -> Outcome:
  plan = session.plan
  method, task = plan.method, plan.task
  evaluator = session.evaluator()
  deployed = method.deploy(state)
  score = lambda update, k: evaluator.validate(session.params, update, k)
  metrics = score(deployed, method.capacity)
  is_adapter = deployed.changes is None
  prefixes, spectral = [], []
  if curves and is_adapter:
    cuts = range(method.capacity + 1)
    sorted_ = jax.jit(by_singular_order, static_argnums=0)(plan.modules, deployed)
    prefixes = [score(deployed, k)[task.metric] for k in cuts]
    spectral = [score(sorted_, k)[task.metric] for k in cuts]
  return Outcome(
    metrics=metrics,
    prefixes=prefixes,
    spectral_prefixes=spectral,
    rank_M=method.report(state).rank_M.tolist(),
    adapter_parameters=adapter_parameters(plan, deployed),
  )


def by_singular_order(modules: tuple[str, ...], deployed: Deployed) -> Deployed:
  """The same update, components by singular value: its best cut of every size."""
  active = {
    name: Component(
      deployed.components[name].a_RI,
      deployed.components[name].b_RO * deployed.active_MS[m][:, None],
    )
    for m, name in enumerate(modules)
  }
  return dataclasses.replace(deployed, components=by_singular_values(active))
