"""Methods that train all their parameters together, on one loss over the whole batch.

    gradient of the summed loss on each device's rows; one all-reduce over `data`
    a step of the head; the method's own step of everything else

What sets one such method apart is its `Rule`; the loop, the mesh, noise and failures
are common. Rows sit on the `data` axis; components are not spread over `worker`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax import train_step
from adapad_jax.collectives import all_reduce
from adapad_jax.lowrank import Deployed, init_updates
from adapad_jax.methods.look import look_over, rows_of_device
from adapad_jax.methods.method import RankReport
from adapad_jax.problem import Problem
from adapad_jax.sharding import (
  WORKER,
  Rows,
  laid,
  put_one,
  row_axes,
  rows_on,
  whole_specs,
)
from adapad_jax.train_step import TrainState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tuned:
  """What a rule trains and keeps, in arrays whose shapes never change.

  Attributes:
    params: what the gradient changes, the head not counted.
    moments: its optimiser state.
    auxiliary: what the rule keeps beside: statistics, ranks, masks.
  """

  params: Any
  moments: Any
  auxiliary: Any


def drawn_start(
  problem: Problem, capacity: int, key: jax.Array, auxiliary: Any = ()
) -> Tuned:
  """Kaiming or other input directions, zero output directions, no moments yet."""
  components = init_updates(key, problem.shapes, capacity, problem.init)
  moments = problem.optimizer.transform().init(components)
  return Tuned(components, moments, auxiliary)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class JointState(TrainState):
  """Everything a run needs to continue, see `Tuned` for what the rule has of it."""

  tuned: Tuned


class Rule:
  """What sets a joint method apart: pure functions of arrays.

  Attributes:
    capacity: the most components that a module may have.
    looks: batches that `observe` is given before the first round; then `inform` makes
      the start of what it found.
  """

  capacity: int
  looks: int = 0

  def require_kept(self) -> None:
    """Refuses, of a new run, settings that it may not keep to: as a rule none."""

  def start(self, key: jax.Array) -> Tuned:
    """Parameters that change nothing yet, with their optimiser and statistics."""
    raise NotImplementedError

  def observe(self, model: Any, head: Any, batch: Any, keys_B: jax.Array) -> Any:
    """Sums over rows of a batch, of which a start is made; see `look`."""
    raise NotImplementedError

  def inform(self, tuned: Tuned, sums: Any) -> Tuned:
    """The start that the sums over all looks make of the one there is."""
    raise NotImplementedError

  def variables(self, tuned: Tuned) -> Any:
    """What the loss is differentiated by."""
    return tuned.params

  def forward(
    self, model: Any, variables: Any, tuned: Tuned, step: jax.Array, rows: int
  ) -> tuple[Any, dict[str, Any]]:
    """(the model's parameters, updates by module) for so many rows of a batch."""
    raise NotImplementedError

  def update(self, tuned: Tuned, grads: Any, step: jax.Array) -> Tuned:
    """One step by the gradient of the mean loss in the `variables`."""
    raise NotImplementedError

  def ranks(self, tuned: Tuned, step: jax.Array) -> jax.Array:
    """Components in training by module, (M,)."""
    raise NotImplementedError

  def deploy(self, tuned: Tuned, step: jax.Array, head: Any) -> Deployed:
    """The update as evaluation uses it; within the budget at every step."""
    raise NotImplementedError

  def report(self, rank_M: np.ndarray, auxiliary: Any) -> RankReport:
    """The ranks that are deployed and how they came about; all on the host."""
    return RankReport(rank_M)

  def timeline(self) -> list[tuple[int, int]]:
    """(step from one, total rank after it) of every allocation that is planned."""
    raise NotImplementedError


# Compared by identity, so that compiled functions may take it as a constant.
@dataclasses.dataclass(frozen=True, eq=False)
class Joint:
  """A joint method bound to a problem; see `Method`."""

  problem: Problem
  rule: Rule
  local_steps: int = 1
  private: None = None

  def rows(self, mesh: jax.sharding.Mesh) -> Rows:
    """Shard by shard."""
    return rows_on(mesh, self.problem.batch)

  def bytes_sent(self, state: JointState) -> int:
    """None: there are no workers."""
    return 0

  @property
  def rounds(self) -> int:
    """Steps of the run."""
    return self.problem.steps

  @property
  def capacity(self) -> int:
    """Components that a module may have."""
    return self.rule.capacity

  @property
  def parameters(self) -> int:
    """Those that the rule starts with."""
    started = jax.eval_shape(self.rule.start, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(started.params))

  @property
  def looks(self) -> int:
    """Batches that the start is made of."""
    return self.rule.looks

  def init(self, head: Any) -> JointState:
    """The rule's start and fresh optimisers."""
    key = jax.random.key(self.problem.seed)
    tuned = self.rule.start(jax.random.fold_in(key, 1))
    return JointState(**train_step.fresh(self.problem, head), tuned=tuned)

  def place(self, state: JointState, mesh: jax.sharding.Mesh) -> JointState:
    """Copies the state to every device.

    Raises:
      ValueError: if the mesh has a worker axis.
    """
    _check_mesh(mesh)
    return replicated(state, mesh)

  def outline(self, head: Any, mesh: jax.sharding.Mesh) -> JointState:
    """Shapes, dtypes and shardings of a placed state."""
    state = jax.eval_shape(self.init, head)
    return laid(state, whole_specs(state), mesh)

  def portable(self, state: JointState) -> JointState:
    """A copy, which outlives the donation of the state to the next step."""
    return _copy(state)

  def make_round(
    self, mesh: jax.sharding.Mesh
  ) -> Callable[..., tuple[JointState, dict]]:
    """One optimiser step.

    Raises:
      ValueError: if the mesh has a worker axis.
    """
    _check_mesh(mesh)
    return one_step(self.problem, self.rule, mesh)

  def look(self, mesh: jax.sharding.Mesh) -> Callable[..., Any]:
    """The rule's sums over the rows of a batch, over all devices.

    Raises:
      ValueError: if the mesh has a worker axis.
    """
    _check_mesh(mesh)
    return look_over(mesh, self.problem, self.rule.observe, whole_specs)

  def inform(self, state: JointState, sums: Any) -> JointState:
    """The state with the start that the rule makes of the sums."""
    return _inform(self.rule, state, sums)

  def live_rounds(
    self, mesh: jax.sharding.Mesh
  ) -> Callable[..., tuple[JointState, dict]]:
    """The same: nothing idles."""
    return self.make_round(mesh)

  def deploy(self, state: JointState) -> Deployed:
    """The rule's update."""
    return _deploy(self.rule, state)

  def report(self, state: JointState) -> RankReport:
    """Ranks of what is deployed, and what the rule knows of them."""
    active_MS = jax.device_get(self.deploy(state).active_MS)
    auxiliary = jax.device_get(state.tuned.auxiliary)
    return self.rule.report(active_MS.sum(axis=1).astype(np.int32), auxiliary)

  def require_kept(self) -> None:
    """What the rule refuses of a new run."""
    self.rule.require_kept()

  def timeline(self) -> list[tuple[int, int]]:
    """The rule's plan."""
    return self.rule.timeline()


def one_step(
  problem: Problem, rule: Rule, mesh: jax.sharding.Mesh
) -> Callable[..., tuple[JointState, dict]]:
  """The compiled step of a rule, which every block of workers repeats."""
  spread = row_axes(mesh)
  body = functools.partial(_device_step, problem, rule, spread)
  return train_step.over_mesh(body, mesh, whole_specs, jax.P(None, spread))


def replicated(state: JointState, mesh: jax.sharding.Mesh) -> JointState:
  """Copies a state to every device of a mesh."""
  put = lambda x, spec: put_one(x, jax.NamedSharding(mesh, spec))
  host = jax.device_get(state)
  # A CPU device reads the host's memory where it can, and what it does not own it
  # cannot donate: the first step would hold the state twice.
  return _copy(jax.tree.map(put, host, whole_specs(host)))


def _check_mesh(mesh: jax.sharding.Mesh) -> None:
  workers = mesh.shape[WORKER]
  if workers > 1:
    raise ValueError(
      f'mesh.worker is {workers}, but only adapad spreads components over workers;'
      f' the other methods train them together: use mesh.worker=1 and mesh.data up to'
      f' {mesh.size}'
    )


@jax.jit
def _copy(state: JointState) -> JointState:
  return jax.tree.map(jnp.copy, state)


@functools.partial(jax.jit, static_argnums=0)
def _deploy(rule: Rule, state: JointState) -> Deployed:
  return rule.deploy(state.tuned, state.step, state.head)


@functools.partial(jax.jit, static_argnums=0)
def _inform(rule: Rule, state: JointState, sums: Any) -> JointState:
  return dataclasses.replace(state, tuned=rule.inform(state.tuned, sums))


def _device_step(
  problem: Problem,
  rule: Rule,
  spread: tuple[str, ...],
  state: JointState,
  model: Any,
  batch: Any,
) -> tuple[JointState, dict[str, jax.Array]]:
  """The step as one device sees it, with its shard of the rows."""
  rows = rows_of_device(state.noise(), spread, batch)
  of_rows = functools.partial(_sums_of_rows, problem, rule, state, model)
  sums = train_step.sum_by_parts(of_rows, rows, problem.accumulate)
  loss, weight, grads = all_reduce(sums, spread)
  has_rows = weight > 0
  share = 1.0 / jnp.where(has_rows, weight, jnp.inf)
  grads, head_grads = jax.tree.map(lambda g: g * share, grads)
  norm, head_norm = optax.tree.norm(grads), optax.tree.norm(head_grads)
  updated = dataclasses.replace(
    state,
    **train_step.step_head(problem, state, head_grads, problem.steps),
    tuned=rule.update(state.tuned, grads, state.step),
    step=state.step + 1,
  )
  is_finite = jnp.isfinite(loss) & jnp.isfinite(norm + head_norm)
  kept = train_step.settle(state, updated, is_finite, has_rows)
  return kept, {
    'loss': loss / weight,
    'norm': norm,
    'rank': jnp.sum(rule.ranks(kept.tuned, kept.step)),
    'step': kept.step,
    'failed': kept.failed,
  }


def _sums_of_rows(
  problem: Problem,
  rule: Rule,
  state: JointState,
  model: Any,
  rows: tuple[Any, jax.Array],
) -> tuple[jax.Array, jax.Array, tuple[Any, Any]]:
  """(loss, weight, gradients in the variables and the head), summed over rows."""
  batch, keys_B = rows

  def total(variables: Any, head: Any) -> tuple[jax.Array, jax.Array]:
    whole, deltas = rule.forward(model, variables, state.tuned, state.step, len(keys_B))
    loss_B, weight_B = problem.loss(whole, head, deltas, None, batch, keys_B)
    return jnp.sum(loss_B), jnp.sum(weight_B)

  differentiate = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)
  (loss, weight), grads = differentiate(rule.variables(state.tuned), state.head)
  return loss, weight, grads


def step_all(
  problem: Problem, tuned: Tuned, grads: Any, step: jax.Array, factors: Any = None
) -> Tuned:
  """Clips, then steps every parameter; the auxiliary state stays.

  Args:
    problem: whose optimiser it is.
    tuned: before the step.
    grads: of the mean loss.
    step: number of the step, which tells the run's rate.
    factors: what that rate is multiplied by for each parameter; None: 1.
  """
  optimizer = problem.optimizer
  rate = optimizer.rate_at(step, step, problem.steps)
  params, moments = optimizer.step(
    rate, tuned.params, optimizer.clipped(grads), tuned.moments, factors=factors
  )
  return Tuned(params, moments, tuned.auxiliary)
