"""The rounds of parallel deflation, as one program on a sharded worker axis."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.collectives import all_gather
from adapad_jax.regression.estimates import (
  Estimate,
  View,
  energies,
  mismatches,
  moved,
  objectives,
)
from adapad_jax.regression.schedule import ACTIVATION, Schedule, Traffic, sees
from adapad_jax.sharding import WORKER


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
  """What each round left behind; rows of rounds that were not run are NaN.

  Attributes:
    objective_LR: 1/2 ||Y - sum_{j<=k} b_j a_j^T X||_F^2 of the terms broadcast.
    moved_LR: how far ||b_k a_k^T X||_F moved in the round.
    mismatch_LR: ||Y_{k,l} - Y_k*||_F of the target worker k faces next; None
      unless the exact components were given.
  """

  objective_LR: jax.Array
  moved_LR: jax.Array
  mismatch_LR: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Reference:
  """What a run is measured against.

  Attributes:
    yy: tr(Y Y^T).
    floor: energy ||b_k a_k^T X||_F^2 that noise alone may reach; read by the
      activation 'above_noise'.
    exact: exact components, to measure mismatches against.
  """

  yy: jax.Array
  floor: jax.Array | float = 0.0
  exact: Estimate | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Carry:
  """The carry of a run.

  Attributes:
    round: rounds done, past calls included.
    active: workers that broadcast at the end of the next round.
    state: solver state of this device's workers.
    kept: the last broadcasts, newest first, a leading version axis V.
    sent_V: how many workers took part in each of them.
  """

  round: jax.Array
  active: jax.Array
  state: Any
  kept: Estimate
  sent_V: jax.Array


def begin(
  solver: Any, objective: Any, start_rI: jax.Array, first: jax.Array, keep: int
) -> Carry:
  """The state before the first round, inside shard_map; `first` broadcast in it."""
  state = solver.start(objective, start_rI)
  rank = start_rI.shape[0] * jax.lax.axis_size(WORKER)
  silent = lambda x: jnp.zeros((keep, rank, *x.shape[1:]), x.dtype)
  return Carry(
    round=jnp.int32(0),
    active=first,
    state=state,
    kept=jax.tree.map(silent, state.message()),
    sent_V=jnp.zeros(keep, jnp.int32),
  )


def one_round(
  solver: Any, objective: Any, schedule: Schedule, traffic: Traffic, now: Carry
) -> tuple[Any, Estimate, jax.Array, jax.Array]:
  """Local steps against what was heard, then the broadcast: one all-gather.

  Returns the states, what was broadcast, how far every term moved, and energies.
  The last two are read off by their own worker, so that nobody does it for all.
  """
  count = jax.tree.leaves(now.state)[0].shape[0]
  size = now.kept.b_SO.shape[1]
  first = jax.lax.axis_index(WORKER) * count
  rank_r = first + jnp.arange(count)
  row_r = lambda x_LR: jax.lax.dynamic_slice_in_dim(x_LR[now.round], first, count)
  merge_versions = lambda x: x.reshape(-1, *x.shape[2:])
  mask_rT = sees(rank_r, row_r(traffic.late_LR), now.sent_V, size)
  view = View(
    jax.tree.map(merge_versions, now.kept), mask_rT.astype(now.kept.b_SO.dtype)
  )
  step = lambda _, state: solver.step(objective, view, state)
  state = jax.lax.fori_loop(0, schedule.local_steps, step, now.state)
  trains_r = ~row_r(traffic.absent_LR)
  if not schedule.advance:
    trains_r &= rank_r < now.active
  keep = lambda new, old: jnp.where(
    trains_r.reshape(-1, *[1] * (new.ndim - 1)), new, old
  )
  state = jax.tree.map(keep, state, now.state)
  own = state.message()
  past = jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(x[0], first, count), now.kept
  )
  return state, *all_gather((own, moved(own, past), energies(own)), WORKER)


def run(
  solver: Any,
  schedule: Schedule,
  rank: int,
  objective: Any,
  reference: Reference,
  traffic: Traffic,
  now: Carry,
) -> tuple[Carry, History]:
  """All rounds, inside shard_map.

  Args:
    solver: how workers improve their terms, see `solvers`.
    schedule: the rounds.
    rank: number of components; workers beyond it only fill up the devices.
    objective: what `solver.prepare` made of the data.
    reference: sizes to compare with.
    traffic: lateness and absences, one row a round.
    now: where to start from.
  """
  first, rows = now.round, (schedule.rounds, now.kept.b_SO.shape[1])
  history = empty_history(rows, reference)
  real_S = jnp.arange(rows[1]) < rank

  def body(carry: tuple) -> tuple:
    now, history, _ = carry
    here = dataclasses.replace(now, round=now.round - first)
    state, news, moved_S, energy_S = one_round(
      solver, objective, schedule, traffic, here
    )
    visible_S = real_S & (jnp.arange(rows[1]) < now.active)
    history = record(history, here.round, reference, news, moved_S, visible_S)
    rule = ACTIVATION[schedule.activation]
    following = rule(now.active, energy_S, moved_S, reference.floor)
    active = jnp.minimum(following, rank)
    shift = lambda new, old: jnp.concatenate([new[None], old[:-1]])
    ahead = Carry(
      round=now.round + 1,
      active=active,
      state=state,
      kept=jax.tree.map(shift, news, now.kept),
      sent_V=shift(now.active, now.sent_V),
    )
    # The next in line counts too: it may be about to join.
    watched_S = real_S & (jnp.arange(rows[1]) <= now.active)
    least = schedule.tolerance * jnp.sqrt(reference.yy)
    still = jnp.where(watched_S, moved_S, 0).max() <= least
    return ahead, history, still & (active == now.active)

  def unfinished(carry: tuple) -> jax.Array:
    more = carry[0].round - first < schedule.rounds
    # Left out where nothing can stop a run early, so that many runs mapped
    # together need not wait for, and mask, each other.
    return more & ~carry[2] if schedule.tolerance else more

  start = now, history, jnp.bool_(False)
  now, history, _ = jax.lax.while_loop(unfinished, body, start)
  return now, jax.tree.map(lambda x: x[:, :rank], history)


def empty_history(rows: tuple[int, int], reference: Reference) -> History:
  """A history of (rounds, workers) to be filled in."""
  empty_LR = jnp.full(rows, jnp.nan, reference.yy.dtype)
  return History(empty_LR, empty_LR, None if reference.exact is None else empty_LR)


def record(
  history: History,
  l: jax.Array,
  reference: Reference,
  news: Estimate,
  moved_S: jax.Array,
  visible_S: jax.Array,
) -> History:
  """The history with round l filled in."""
  mismatch_LR = history.mismatch_LR
  if reference.exact is not None:
    mismatch_S = mismatches(news, reference.exact, visible_S)
    mismatch_LR = mismatch_LR.at[l].set(mismatch_S)
  return History(
    history.objective_LR.at[l].set(objectives(reference.yy, news, visible_S)),
    history.moved_LR.at[l].set(moved_S),
    mismatch_LR,
  )
