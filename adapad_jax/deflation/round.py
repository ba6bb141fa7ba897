"""One communication round: broadcast, H local steps of every worker, discovery.

    everyone = all_gather(own)                          the one all-gather
    repeat H times, every worker k at once:
      loss of the model with predecessors j < k from `everyone`, frozen, and its own
      component; an optax step on that component in every module where it is live
    one all-reduce over workers of the head's gradient and the statistics
    head step; rank discovery

The body runs per device under `shard_map` over the ('worker', 'data') mesh, so the
model inside sees plain local arrays. It compiles once for a whole run.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adapad_jax.deflation import worker
from adapad_jax.deflation.components import Component, all_gather
from adapad_jax.deflation.discovery import Discovery, Ranks, live_workers
from adapad_jax.deflation.feeding import Feeding, Slots
from adapad_jax.deflation.layout import Layout
from adapad_jax.deflation.optimizer import Optimizer, apply
from adapad_jax.deflation.state import WORKER, State, state_specs
from adapad_jax.sharding import row_axes, row_shards, specs_of

HEAD_ROWS = ('all', 'last')


@dataclasses.dataclass(frozen=True)
class Deflation:
  """Parallel deflation with rank discovery.

  Attributes:
    layout: the adapted modules; their order breaks ties in discovery.
    loss: see `worker.LossFn`.
    discovery, feeding: who has how many components, and who sees which rows.
    optimizer, head_optimizer: of the components and of the head.
    rounds: length of the run; schedules end with it.
    scale: s, the constant in front of every component (alpha / r in LoRA's terms).
    local_steps: H.
    head_rows: whose rows train the head: those of 'all' workers or of the 'last' live
      one, whose model is closest to what is deployed.
    accumulate: parts in which a device's rows are computed, one after the other.
  """

  layout: Layout
  loss: worker.LossFn
  discovery: Discovery
  feeding: Feeding
  optimizer: Optimizer
  head_optimizer: Optimizer
  rounds: int
  scale: float = 1.0
  local_steps: int = 1
  head_rows: str = 'last'
  accumulate: int = 1

  def __post_init__(self) -> None:
    if self.head_rows not in HEAD_ROWS:
      raise ValueError(
        f'unknown adapad.head_rows {self.head_rows!r}; choose from {list(HEAD_ROWS)}'
      )
    if self.feeding.has_joint and self.local_steps > 1:
      raise ValueError(
        f'joint rows (adapad.joint={self.feeding.joint} of a batch, all of it in the'
        f' last adapad.polish={self.feeding.polish} of the run) need'
        ' adapad.local_steps=1, got'
        f' {self.local_steps}: between broadcasts a worker knows only its own part'
      )
    if self.feeding.workers != self.discovery.r_max:
      raise ValueError(
        f'feeding has {self.feeding.workers} workers but discovery.r_max is'
        f' {self.discovery.r_max}: every component needs its worker'
      )

  def init(self, components: dict[str, Component], head: Any, seed: int) -> State:
    """The state before the first round."""
    stack_RMP = self.layout.stack(components)
    return State(
      stack_RMP=stack_RMP,
      moments=jax.vmap(jax.vmap(self.optimizer.transform().init))(stack_RMP),
      age_RM=jnp.zeros(stack_RMP.shape[:2], jnp.int32),
      head=head,
      head_moments=self.head_optimizer.transform().init(head),
      ranks=self.discovery.init(len(self.layout.modules)),
      step=jnp.zeros((), jnp.int32),
      key=jax.random.key_data(jax.random.key(seed)),
      failed=jnp.full((), -1, jnp.int32),
    )

  def masks(self, ranks: Ranks, width: int) -> tuple[jax.Array, jax.Array]:
    """(active, live) over `width` >= r_max components; the padding is neither."""
    pad = ((0, 0), (0, width - self.discovery.r_max))
    active_MS, live_MS = self.discovery.masks(ranks)
    return jnp.pad(active_MS, pad), jnp.pad(live_MS, pad)


def make_round(
  method: Deflation, mesh: jax.sharding.Mesh, capacity: int | None = None
) -> Callable[[State, Any, Any], tuple[State, dict[str, jax.Array]]]:
  """Returns the jitted round(state, model, batch) -> (state, metrics); state donated.

  `batch` leaves are (H, B, ...), laid out by `feeding.rows(mesh)`.
  Metrics are replicated: loss (of the last live worker, whose model is closest to what
  is deployed), loss_R (nan where a worker saw no row), norm_R (gradient norms before
  clipping), rank (total), live (workers), step, failed.

  Args:
    method: what to run.
    mesh: the worker axis divides the stacks; the model may lie divided over `model`.
    capacity: row slots of a device; None suffices for any number of live workers.
  """
  blocks, rows = mesh.shape[WORKER], method.feeding.rows(mesh)
  capacity = capacity or method.feeding.capacity(blocks, row_shards(mesh))
  capacity = -(-capacity // method.accumulate) * method.accumulate
  body = functools.partial(_device_round, method, blocks, row_axes(mesh), capacity)

  def run(state: State, model: Any, batch: Any) -> tuple[State, dict[str, jax.Array]]:
    specs = state_specs(state)
    return jax.shard_map(
      body,
      mesh=mesh,
      in_specs=(specs, specs_of(model), rows.spec),
      out_specs=(specs, jax.P()),
      check_vma=False,
    )(state, model, batch)

  return jax.jit(run, donate_argnums=0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Statistics:
  """What workers share at the end of a round besides their components."""

  head: Any
  head_weight: jax.Array
  impact_M: jax.Array
  loss_R: jax.Array
  weight_R: jax.Array
  norm_R: jax.Array
  broken: jax.Array


def _device_round(
  method: Deflation,
  blocks: int,
  rows: tuple[str, ...],
  capacity: int,
  state: State,
  model: Any,
  batch: Any,
) -> tuple[State, dict[str, jax.Array]]:
  """The round as one device sees it: r of the R workers and a shard of the rows."""
  w, d = jax.lax.axis_index(WORKER), jax.lax.axis_index(rows)
  shards = jax.lax.axis_size(rows)
  with jax.named_scope('broadcast'):
    everyone_SMP = all_gather(state.stack_RMP, WORKER)
  width = everyone_SMP.shape[0]
  active_MS, live_MS = method.masks(state.ranks, width)
  live = live_workers(live_MS)
  own_rows = method.feeding.own_rows_at(state.step, method.rounds)
  slots = method.feeding.slots(live, own_rows, blocks, shards, w, d, capacity)
  # While no row is a worker's own, what trains in advance rests: a gradient of zero
  # would let Adam's momentum carry it on.
  live_MS = jnp.where(own_rows > 0, live_MS, active_MS)
  workers = width // blocks
  view = worker.View(
    layout=method.layout,
    everyone_SMP=everyone_SMP,
    active_MS=active_MS,
    live_MS=live_MS,
    slots=slots,
    row_axes=rows,
    first=w * workers,
    workers=workers,
    live=live,
    scale=method.scale,
    has_joint=method.feeding.has_joint,
  )
  keys_B = _row_keys(state, slots)
  local_step = functools.partial(_local_step, method, view, state, model, keys_B)
  start = state.stack_RMP, state.moments, state.age_RM
  steps = jnp.arange(method.local_steps), batch
  (own_rMP, moments, age_rM), stats_H = _repeat(local_step, start, steps)
  stats = worker.all_reduce(jax.tree.map(lambda x: jnp.sum(x, 0), stats_H), WORKER)
  ok = (stats.broken == 0) & (state.failed < 0)
  head, head_moments = _step_head(method, state, stats)
  importance_M = stats.impact_M / (state.ranks.rank_M * method.local_steps)
  with jax.named_scope('discovery'):
    ranks = method.discovery.update(state.ranks, importance_M, state.step)
  updated = dataclasses.replace(
    state,
    stack_RMP=own_rMP,
    moments=moments,
    age_RM=age_rM,
    head=head,
    head_moments=head_moments,
    ranks=ranks,
    step=state.step + 1,
  )
  kept = jax.tree.map(lambda new, old: jnp.where(ok, new, old), updated, state)
  failed = jnp.where(ok | (state.failed >= 0), state.failed, state.step)
  kept = dataclasses.replace(kept, failed=failed)
  loss_R = stats.loss_R / stats.weight_R
  return kept, {
    'loss': jax.lax.dynamic_index_in_dim(loss_R, live - 1, keepdims=False),
    'loss_R': loss_R,
    'norm_R': stats.norm_R / method.local_steps,
    'rank': jnp.sum(kept.ranks.rank_M),
    'live': live,
    'step': kept.step,
    'failed': kept.failed,
  }


def _repeat(step: Callable[..., Any], start: Any, xs: Any) -> tuple[Any, Any]:
  """`jax.lax.scan`, written out when there is one step: XLA optimises that further."""
  if len(jax.tree.leaves(xs)[0]) > 1:
    return jax.lax.scan(step, start, xs)
  carry, out = step(start, jax.tree.map(lambda x: x[0], xs))
  return carry, jax.tree.map(lambda x: x[None], out)


def _row_keys(state: State, slots: Slots) -> jax.Array:
  """Noise of (round, worker, row): the same however they lie on the mesh."""
  root = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
  fold = lambda owner, row: jax.random.fold_in(jax.random.fold_in(root, owner), row)
  return jax.vmap(fold)(slots.owner_C, slots.number_C)


def _local_step(
  method: Deflation,
  view: worker.View,
  state: State,
  model: Any,
  keys_B: jax.Array,
  carry: Any,
  xs: Any,
) -> tuple[Any, _Statistics]:
  """One optax step of this device's workers on their own components."""
  own_rMP, moments, age_rM = carry
  h, rows = xs
  with jax.named_scope('worker_step'):
    sums = worker.gradients(
      method.loss,
      view,
      own_rMP if method.local_steps > 1 else None,
      state.head,
      model,
      rows,
      jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, h),
      head_rows=method.head_rows,
      worker_axis=WORKER,
      parts=method.accumulate,
    )
  grads_rMP = worker.mean_gradients(sums)
  norm_r = worker.global_norms(grads_rMP)
  step = state.step * method.local_steps + h
  gate_rM = (view.own(view.live_MS, 1).T > 0) & (sums.weight_r > 0)[:, None]
  rate_rM = method.optimizer.rate_at(age_rM, step, method.rounds * method.local_steps)
  new_rMP, new_moments = worker.step_components(
    method.optimizer, gate_rM, rate_rM, own_rMP, grads_rMP, moments
  )
  active_Mr = view.own(view.active_MS, 1)
  place = lambda x_r: jax.lax.dynamic_update_slice(
    jnp.zeros(view.active_MS.shape[1]), x_r.astype(jnp.float32), (view.first,)
  )
  finite = jnp.all(jnp.isfinite(norm_r)) & jnp.isfinite(optax.tree.norm(sums.head))
  stats = _Statistics(
    head=sums.head,
    head_weight=sums.head_weight,
    impact_M=worker.impact(method.layout, own_rMP, grads_rMP, active_Mr),
    loss_R=place(sums.loss_r),
    weight_R=place(sums.weight_r),
    norm_R=place(norm_r),
    broken=jnp.where(finite, 0.0, 1.0),
  )
  return (new_rMP, new_moments, age_rM + gate_rM), stats


def _step_head(method: Deflation, state: State, stats: _Statistics) -> tuple[Any, Any]:
  """One step of the shared head on the mean gradient of the round's rows."""
  share = 1.0 / jnp.where(stats.head_weight > 0, stats.head_weight, jnp.inf)
  grads = jax.tree.map(lambda g: g * share, stats.head)
  clipper = method.head_optimizer.clipper()
  grads, _ = clipper.update(grads, clipper.init(grads))
  rate = method.head_optimizer.rate_at(state.step, state.step, method.rounds)
  return apply(
    method.head_optimizer.transform(),
    stats.head_weight > 0,
    rate,
    state.head,
    grads,
    state.head_moments,
  )
