"""What a device's workers do in one local step.

Sums over the data axis happen here, once a step and as one buffer. Nothing here crosses
the worker axis, unless there are joint rows: then every worker's gradient is summed
over the devices and handed to its owner, by one reduce-scatter.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adapad_jax.collectives import all_reduce
from adapad_jax.deflation.deflation import Deflation
from adapad_jax.deflation.slots import Slots
from adapad_jax.deflation.state import State
from adapad_jax.deflation.target import Target
from adapad_jax.lowrank import Packing
from adapad_jax.sharding import WORKER
from adapad_jax.train_step import sum_by_parts


@dataclasses.dataclass(frozen=True)
class Work:
  """What this device computes in a round.

  Attributes:
    method: what runs.
    target: what the workers train against.
    slots: the rows computed here and their owners.
    parts: how many, one after the other, they are computed in.
    keys_B: noise of each of them.
    live: number of live workers, on all devices.
    own_rows: how many rows of the batch belong to single workers.
    row_axes: mesh axes over which the rows are spread.
    state: as the round began; its head stays for all local steps.
    model: frozen parameters.
  """

  method: Deflation
  target: Target
  slots: Slots
  parts: int
  keys_B: jax.Array
  live: jax.Array
  own_rows: Any
  row_axes: tuple[str, ...]
  state: State
  model: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
  """Gradients and losses of one step, summed over rows and the data axis.

  Attributes:
    local_rMP: gradient of each worker's summed loss in its own components.
    head: gradient of the head rows' summed loss in the head.
    loss_r, weight_r: each worker's summed loss and weight.
    own_r: the part of that weight which is of rows of its own.
    head_weight: weight of the head's rows.
  """

  local_rMP: jax.Array
  head: Any
  loss_r: jax.Array
  weight_r: jax.Array
  own_r: jax.Array
  head_weight: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Statistics:
  """What workers share at the end of a round besides their components."""

  head: Any
  head_weight: jax.Array
  impact_M: jax.Array
  loss_R: jax.Array
  weight_R: jax.Array
  norm_R: jax.Array
  broken: jax.Array


def local_step(
  work: Work, carry: tuple[jax.Array, Any, jax.Array], xs: tuple[jax.Array, Any]
) -> tuple[tuple[jax.Array, Any, jax.Array], Statistics]:
  """One optax step of this device's workers on their own components."""
  method, target = work.method, work.target
  local_rMP, moments, age_rM = carry
  h, batch = xs
  local_steps = method.settings.local_steps
  with jax.named_scope('worker_step'):
    moved_rMP = local_rMP if local_steps > 1 else None
    sums = gradients(work, moved_rMP, batch, h)
  active_Mr = target.part(target.active_MS, 1)
  trained_rM = trained_by(sums, active_Mr)
  grads_rMP = mean_gradients(sums.local_rMP, trained_rM)
  norm_r = jnp.sqrt(jnp.sum(jnp.square(grads_rMP), axis=(1, 2)))
  step = work.state.step * local_steps + h
  gate_rM = (target.part(target.live_MS, 1).T > 0) & (trained_rM > 0)
  optimizer, rate_rM = method.problem.optimizer, rates(work, age_rM, active_Mr, step)
  # Clips by worker, then steps every component with its own moments and rate.
  new_rMP, new_moments = jax.vmap(jax.vmap(optimizer.step))(
    rate_rM, local_rMP, jax.vmap(optimizer.clipped)(grads_rMP), moments, gate_rM
  )
  place = lambda x_r: jax.lax.dynamic_update_slice(
    jnp.zeros(target.active_MS.shape[1]), x_r.astype(jnp.float32), (target.first,)
  )
  number_r = norm_r + sums.loss_r
  finite = jnp.all(jnp.isfinite(number_r)) & jnp.isfinite(optax.tree.norm(sums.head))
  stats = Statistics(
    head=sums.head,
    head_weight=sums.head_weight,
    impact_M=impact(
      method.packing, local_rMP, grads_rMP, target.part(judged(target), 1)
    ),
    loss_R=place(sums.loss_r),
    weight_R=place(sums.weight_r),
    norm_R=place(norm_r),
    broken=jnp.where(finite, 0.0, 1.0),
  )
  return (new_rMP, new_moments, age_rM + gate_rM), stats


def rates(
  work: Work, age_rM: jax.Array, active_Mr: jax.Array, step: jax.Array
) -> jax.Array:
  """The rate of every component, by its age and by the rows that train it, (r, M)."""
  method, target = work.method, work.target
  steps = method.rounds * method.settings.local_steps
  by_age_rM = method.problem.optimizer.rate_at(age_rM, step, steps)
  worker_r = target.first + jnp.arange(target.workers)
  active_r, advance_r = method.feeding.rate_factors(worker_r, work.live, work.own_rows)
  return by_age_rM * jnp.where(active_Mr.T > 0, active_r[:, None], advance_r[:, None])


def gradients(
  work: Work, local_rMP: jax.Array | None, batch: Any, h: jax.Array
) -> Sums:
  """Differentiates every row's loss in its owner's components, and in the head.

  Args:
    work: what this device computes.
    local_rMP: this device's components; None while they are still as broadcast, which
      saves the copies.
    batch: this device's rows.
    h: number of the local step.
  """
  keys_B = jax.vmap(jax.random.fold_in, in_axes=(0, None))(work.keys_B, h)
  of_rows = functools.partial(_gradients_of_rows, work, local_rMP, batch)
  sums = sum_by_parts(of_rows, (work.slots, keys_B), work.parts)
  sums = all_reduce(sums, work.row_axes)
  return _to_owners(sums) if work.method.feeding.has_joint else sums


def _gradients_of_rows(
  work: Work, local_rMP: jax.Array | None, batch: Any, part: tuple[Slots, jax.Array]
) -> Sums:
  """`gradients` over some of this device's slots alone."""
  (slots, keys_B), method, target = part, work.method, work.target
  rows = jax.tree.map(lambda x: x[slots.row_C], batch)
  valid_B = slots.valid_C.astype(jnp.float32)
  last_B = valid_B * (slots.owner_C == work.live - 1)
  head_B = last_B if method.settings.head_rows == 'last' else None
  broadcast = target.split(target.broadcast_SMP)
  if local_rMP is None:
    trained, deltas_of = broadcast, lambda now: target.deltas(slots, now, None)
  else:
    trained = target.split(local_rMP)
    deltas_of = lambda local: target.deltas(slots, broadcast, local)

  def total(trained: Any, head: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    deltas = deltas_of(trained)
    loss_B, weight_B = method.problem.loss(
      work.model, head, deltas, head_B, rows, keys_B
    )
    # A select and not a product: an idle slot must not contribute, even if not finite.
    loss_B = jnp.where(slots.valid_C, loss_B, 0.0)
    return jnp.sum(loss_B), (loss_B, weight_B * valid_B)

  (grad, grad_head), (loss_B, weight_B) = jax.grad(total, argnums=(0, 1), has_aux=True)(
    trained, work.state.head
  )
  grad_rMP = method.packing.joined(grad)
  mine = (lambda x_S: x_S) if method.feeding.has_joint else target.part
  trains_BS = target.masks(slots).trains_BS > 0
  by_worker = lambda x_B: jnp.sum(jnp.where(trains_BS, x_B[:, None], 0.0), axis=0)
  return Sums(
    local_rMP=mine(grad_rMP) if local_rMP is None else grad_rMP,
    head=grad_head,
    loss_r=mine(by_worker(loss_B)),
    weight_r=mine(by_worker(weight_B)),
    own_r=mine(by_worker(jnp.where(slots.joint_C, 0.0, weight_B))),
    head_weight=jnp.sum(weight_B * (valid_B if head_B is None else head_B)),
  )


def _to_owners(sums: Sums) -> Sums:
  """Sums over devices that cover all workers, as each owner's part of the total."""
  if jax.lax.axis_size(WORKER) == 1:
    return sums
  workers, *shape = sums.local_rMP.shape
  numbers = [x_r[:, None] for x_r in (sums.loss_r, sums.weight_r, sums.own_r)]
  flat = jnp.concatenate([sums.local_rMP.reshape(workers, -1), *numbers], 1)
  mine = jax.lax.psum_scatter(flat, WORKER, scatter_dimension=0, tiled=True)
  return dataclasses.replace(
    sums,
    local_rMP=mine[:, :-3].reshape(-1, *shape),
    loss_r=mine[:, -3],
    weight_r=mine[:, -2],
    own_r=mine[:, -1],
  )


def trained_by(sums: Sums, active_Mr: jax.Array) -> jax.Array:
  """Weight of the rows that train a component, (r, M).

  Joint rows train active ones alone. What has no rows of its own in a round and learns
  in advance rests: momentum would carry it on without a gradient.
  """
  return jnp.where(active_Mr.T > 0, sums.weight_r[:, None], sums.own_r[:, None])


def mean_gradients(sum_rMP: jax.Array, trained_rM: jax.Array) -> jax.Array:
  """Gradient of the mean loss of the rows that train a component, zero without any.

  The rows are each component's own number of them: what learns in advance has fewer
  than its worker, and with a gradient as small as its share of those rows Adam would
  overshoot when joint rows join in at the grant.

  Args:
    sum_rMP: gradient of the summed loss.
    trained_rM: weight of the rows, see `trained_by`.
  """
  return sum_rMP / jnp.where(trained_rM > 0, trained_rM, jnp.inf)[:, :, None]


def judged(target: Target) -> jax.Array:
  """The components whose importance is their module's, 0/1, (M, S): the active ones.

  A module that has none, as an imported adapter may, has what learns in advance.
  """
  is_empty_M1 = jnp.sum(target.active_MS, axis=1, keepdims=True) == 0
  return jnp.where(is_empty_M1, target.live_MS, target.active_MS)


def impact(
  packing: Packing, local_rMP: jax.Array, grads_rMP: jax.Array, judged_Mr: jax.Array
) -> jax.Array:
  """Sum of |w dL/dw| over each module's judged components on this device, (M,).

  Divided by the number of entries of one component, so that after summing over
  workers and dividing by the rank it is the mean over active entries.
  """
  sum_rM = jnp.sum(jnp.abs(local_rMP * grads_rMP), axis=2)
  return jnp.sum(sum_rM.T * judged_Mr, axis=1) / packing.sizes_M
