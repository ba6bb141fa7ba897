"""What the compiled step of every method does, whatever it trains.

gradients of the summed loss on each device's rows; sums over the devices
a step of the head; the method's own step of everything else
a step that is not finite changes nothing, and nothing changes after it
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.problem import Problem
from adapad_jax.sharding import specs_of


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """What a run needs to continue beside what its method trains.

  Attributes:
    head, head_moments: the head and its optimiser state.
    step: rounds done, which is also the position in the data.
    key: bits of the random key that all noise is folded from.
    failed: the first round whose loss or gradient was not finite, or -1. From then
      on nothing changes, so the last good state survives.
  """

  head: Any
  head_moments: Any
  step: jax.Array
  key: jax.Array
  failed: jax.Array

  def noise(self) -> jax.Array:
    """The key of the round, from which rows fold theirs."""
    return jax.random.fold_in(jax.random.wrap_key_data(self.key), self.step)


def fresh(problem: Problem, head: Any) -> dict[str, Any]:
  """The fields of `TrainState` before the first round."""
  return dict(
    head=head,
    head_moments=problem.head_optimizer.transform().init(head),
    step=jnp.zeros((), jnp.int32),
    key=jax.random.key_data(jax.random.key(problem.seed)),
    failed=jnp.full((), -1, jnp.int32),
  )


def over_mesh(
  body: Callable[..., Any],
  mesh: jax.sharding.Mesh,
  state_specs: Callable[[Any], Any],
  rows: jax.sharding.PartitionSpec,
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
  """The jitted (state, model, batch) -> (state, metrics); the state is donated.

  Args:
    body: the same as one device sees it; its metrics are equal on all devices.
    mesh: the devices; the model may lie on them as it likes.
    state_specs: partition specs of a state.
    rows: how the rows of a batch lie.
  """

  def run(state: Any, model: Any, batch: Any) -> tuple[Any, dict[str, jax.Array]]:
    specs = state_specs(state)
    return jax.shard_map(
      body,
      mesh=mesh,
      in_specs=(specs, specs_of(model), rows),
      out_specs=(specs, jax.P()),
      check_vma=False,
    )(state, model, batch)

  return jax.jit(run, donate_argnums=0)


def sum_by_parts(of_rows: Callable[[Any], Any], rows: Any, parts: int) -> Any:
  """The sum of `of_rows` over parts of the rows, by a scan.

  Args:
    of_rows: rows -> a tree of sums over them.
    rows: arrays whose leading axis `parts` divides.
    parts: how many; one calls the function directly.
  """
  if parts == 1:
    return of_rows(rows)
  split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), rows)
  shapes = jax.eval_shape(of_rows, jax.tree.map(lambda x: x[0], split))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  add = lambda total, part: (jax.tree.map(jnp.add, total, of_rows(part)), None)
  return jax.lax.scan(add, zeros, split)[0]


def step_head(
  problem: Problem,
  state: TrainState,
  grads: Any,
  rounds: int,
  gate: Any = None,
  batches: int = 1,
) -> dict[str, Any]:
  """One step of the head, clipped; the fields of the state that it changes.

  Args:
    problem: whose head it is.
    state: before the step.
    grads: of the mean loss of the head's rows.
    rounds: length of the run.
    gate: whether there were any rows; None: always.
    batches: of a round, in which the schedule counts, as that of everything else.
  """
  optimizer, seen = problem.head_optimizer, state.step * batches
  head, moments = optimizer.step(
    optimizer.rate_at(seen, seen, rounds * batches),
    state.head,
    optimizer.clipped(grads),
    state.head_moments,
    gate,
  )
  return dict(head=head, head_moments=moments)


def settle(
  state: Any, updated: Any, is_finite: jax.Array, has_rows: jax.Array | bool = True
) -> Any:
  """The updated state if this step and all before it were finite, else the old one.

  A batch whose rows weigh nothing changes nothing but the count of rounds.
  """
  ok = is_finite & (state.failed < 0)
  moves = ok & has_rows
  kept = jax.tree.map(lambda new, old: jnp.where(moves, new, old), updated, state)
  failed = jnp.where(ok | (state.failed >= 0), state.failed, state.step)
  step = jnp.where(ok, updated.step, state.step)
  return dataclasses.replace(kept, failed=failed, step=step)
