"""One communication round: broadcast, H local steps of every worker, discovery.

    broadcast = all_gather(local)                         the one all-gather
    repeat H times, every worker k at once:
      loss of the model against its deflation target, see `deflation.target`: the
      predecessors j < k from `broadcast`, frozen, and its own component; an optax step
      on that component in every module where it is live
    one all-reduce over workers of the head's gradient and the statistics
    head step; rank discovery

The body runs per device under `shard_map` over the ('worker', 'data') mesh, so the
model inside sees plain local arrays. Growth changes masks and no shape, so a round is
compiled once, or once for each range of live workers where idle ones are left out.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax import train_step
from adapad_jax.collectives import all_gather, all_reduce
from adapad_jax.deflation import worker
from adapad_jax.deflation.deflation import Deflation
from adapad_jax.deflation.discovery import live_workers
from adapad_jax.deflation.slots import Slots
from adapad_jax.deflation.state import Placed, State, state_specs
from adapad_jax.deflation.target import Target
from adapad_jax.sharding import WORKER, row_axes, row_shards


def make_round(
  method: Deflation,
  mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh,
  capacity: int | None = None,
) -> Callable[[State, Any, Any], tuple[State, dict[str, jax.Array]]]:
  """Returns the jitted round(state, model, batch) -> (state, metrics); state donated.

  `batch` leaves are (H, B, ...), laid out by `feeding.rows(mesh)`.
  Metrics are replicated: loss (of the last live worker that saw rows, whose model is
  closest to what is deployed), loss_R (nan where a worker saw no row), norm_R (gradient
  norms before clipping), rank (total), live (workers), step, failed.

  Args:
    method: what to run.
    mesh: the worker axis divides the stacks; the model may lie divided over `model`.
    capacity: row slots of a device; None suffices for any number of live workers.
  """
  blocks, shards = mesh.shape[WORKER], row_shards(mesh)
  capacity = capacity or method.feeding.capacity(blocks, shards)
  parts = method.problem.accumulate
  if computes_in_turn(mesh):
    parts *= method.feeding.parts(shards, capacity)
  capacity = -(-capacity // parts) * parts
  body = functools.partial(_device_round, method, row_axes(mesh), capacity, parts)
  return train_step.over_mesh(body, mesh, state_specs, method.feeding.rows(mesh).spec)


def computes_in_turn(mesh: jax.sharding.Mesh | jax.sharding.AbstractMesh) -> bool:
  """Whether devices take the rows of one worker after those of another.

  That suits a CPU, whose caches the activations of all workers' rows leave, and not a
  GPU, which many rows keep busy. Devices that are not there are taken for GPUs.
  """
  is_there = isinstance(mesh, jax.sharding.Mesh)
  return is_there and mesh.devices.flat[0].platform == 'cpu'


def _device_round(
  method: Deflation,
  rows: tuple[str, ...],
  capacity: int,
  parts: int,
  state: State,
  model: Any,
  batch: Any,
) -> tuple[State, dict[str, jax.Array]]:
  """The round as one device sees it: r of the R workers and a shard of the rows."""
  with jax.named_scope('broadcast'):
    broadcast_SMP = all_gather(state.stack_RMP, WORKER)
  work = _work(method, rows, capacity, parts, broadcast_SMP, state, model)
  local_steps = method.settings.local_steps
  (local_rMP, moments, age_rM), stats_H = _repeat(
    functools.partial(worker.local_step, work),
    (state.stack_RMP, state.moments, state.age_RM),
    (jnp.arange(local_steps), batch),
  )
  stats = all_reduce(jax.tree.map(lambda x: jnp.sum(x, 0), stats_H), WORKER)
  importance_M = stats.impact_M / (jnp.maximum(state.ranks.rank_M, 1) * local_steps)
  with jax.named_scope('discovery'):
    ranks = method.discovery.update(state.ranks, importance_M, state.step)
  updated = dataclasses.replace(
    state,
    stack_RMP=local_rMP,
    moments=moments,
    age_RM=age_rM,
    **_step_head(method, state, stats),
    ranks=ranks,
    step=state.step + 1,
  )
  has_rows = jnp.any(stats.weight_R > 0)
  kept = train_step.settle(state, updated, stats.broken == 0, has_rows)
  loss_R = stats.loss_R / stats.weight_R
  index_R = jnp.arange(len(loss_R))
  last = jnp.max(index_R * ((stats.weight_R > 0) & (index_R < work.live)))
  return kept, {
    'loss': jax.lax.dynamic_index_in_dim(loss_R, last, keepdims=False),
    'loss_R': loss_R,
    'norm_R': stats.norm_R / local_steps,
    'rank': jnp.sum(kept.ranks.rank_M),
    'live': work.live,
    'step': kept.step,
    'failed': kept.failed,
  }


def _work(
  method: Deflation,
  rows: tuple[str, ...],
  capacity: int,
  parts: int,
  broadcast_SMP: jax.Array,
  state: State,
  model: Any,
) -> worker.Work:
  """Who is live, which rows this device computes, and what against."""
  w, d = jax.lax.axis_index(WORKER), jax.lax.axis_index(rows)
  blocks, shards = jax.lax.axis_size(WORKER), jax.lax.axis_size(rows)
  width = broadcast_SMP.shape[0]
  active_MS, live_MS = method.masks(state.ranks, width)
  live = live_workers(live_MS)
  own_rows = method.feeding.own_rows_at(state.step)
  slots = method.feeding.slots(
    live, own_rows, blocks, shards, w, d, capacity, state.step
  )
  target = Target(
    packing=method.packing,
    places=method.packing.places | (state.numbers if isinstance(state, Placed) else {}),
    broadcast_SMP=broadcast_SMP,
    active_MS=active_MS,
    # While no row is a worker's own, what trains in advance rests: a gradient of zero
    # would let Adam's momentum carry it on.
    live_MS=jnp.where(own_rows > 0, live_MS, active_MS),
    scale=method.problem.scale,
    first=w * (width // blocks),
    workers=width // blocks,
  )
  keys_B = _row_keys(state, slots)
  return worker.Work(
    method, target, slots, parts, keys_B, live, own_rows, rows, state, model
  )


def _repeat(step: Callable[..., Any], start: Any, xs: Any) -> tuple[Any, Any]:
  """`jax.lax.scan`, written out when there is one step: XLA optimises that further."""
  if len(jax.tree.leaves(xs)[0]) > 1:
    return jax.lax.scan(step, start, xs)
  carry, out = step(start, jax.tree.map(lambda x: x[0], xs))
  return carry, jax.tree.map(lambda x: x[None], out)


def _row_keys(state: State, slots: Slots) -> jax.Array:
  """Noise of (round, worker, row): the same however they lie on the mesh."""
  root = state.noise()
  fold = lambda owner, row: jax.random.fold_in(jax.random.fold_in(root, owner), row)
  return jax.vmap(fold)(slots.owner_C, slots.number_C)


def _step_head(
  method: Deflation, state: State, stats: worker.Statistics
) -> dict[str, Any]:
  """One step of the shared head on the mean gradient of the round's rows."""
  has_rows = stats.head_weight > 0
  share = 1.0 / jnp.where(has_rows, stats.head_weight, jnp.inf)
  grads = jax.tree.map(lambda g: g * share, stats.head)
  return train_step.step_head(
    method.problem, state, grads, method.rounds, has_rows, method.settings.local_steps
  )
