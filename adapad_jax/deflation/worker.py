"""What a device's workers do in one local step.

Sums over the data axis happen here, once a step and as one buffer. Nothing here crosses
the worker axis, unless there are joint rows: then every worker's gradient is summed
over the devices and handed to its owner, by one reduce-scatter.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adapad_jax.collectives import all_reduce
from adapad_jax.deflation.feeding import Slots
from adapad_jax.deflation.target import Masks
from adapad_jax.lowrank import Delta, LowRank, Packing
from adapad_jax.optim import Optimizer

# loss(model, head, deltas, head_weight_B or None, batch, keys_B) -> (loss_B, weight_B):
# each row's summed loss and its weight; a mean loss is sum(loss) / sum(weight).
LossFn = Callable[..., tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class View:
  """What this device's workers know during a round.

  Attributes:
    packing: where each module's components lie.
    everyone_SMP: all components as broadcast at the round's start, frozen.
    active_MS, live_MS: who is deployed and who trains, by module.
    slots: the rows computed here and their owners.
    row_axes: mesh axes over which the rows are spread.
    first: index of this device's first worker.
    workers: number of this device's workers.
    live: number of live workers.
    scale: s, in front of every component.
    has_joint: whether some rows train the components of every worker.
  """

  packing: Packing
  everyone_SMP: jax.Array
  active_MS: jax.Array
  live_MS: jax.Array
  slots: Slots
  row_axes: tuple[str, ...]
  first: jax.Array
  workers: int
  live: jax.Array
  scale: float
  has_joint: bool = False

  def own(self, x_S: jax.Array, axis: int = 0) -> jax.Array:
    """This device's part of an axis over all workers."""
    return jax.lax.dynamic_slice_in_dim(x_S, self.first, self.workers, axis)

  def masks(self) -> Masks:
    """Who sees and who trains whom, over the broadcast components alone."""
    index_S = jnp.arange(self.active_MS.shape[1])[None]
    owner_B1, joint_B1 = self.slots.owner_C[:, None], self.slots.joint_C[:, None]
    wide = lambda x: x.astype(jnp.float32)
    return Masks(
      before_BS=wide((index_S < owner_B1) & ~joint_B1),
      own_BS=wide((index_S == owner_B1) & ~joint_B1),
      joint_B1=wide(joint_B1),
      active_MS=self.active_MS,
      live_MS=self.live_MS,
    )

  def masks_behind(self) -> Masks:
    """The same over [everyone; own]: predecessors in front, own components behind."""
    masks = self.masks()
    front, none = (0, self.workers), lambda x: jnp.zeros_like(x)
    behind = lambda frozen, mine: jnp.concatenate([frozen, mine], axis=1)
    pad = lambda x: jnp.pad(x, ((0, 0), front))
    return Masks(
      before_BS=pad(masks.before_BS),
      own_BS=behind(none(masks.own_BS), self.own(masks.own_BS, 1)),
      joint_B1=masks.joint_B1,
      active_MS=pad(masks.active_MS),
      live_MS=behind(none(masks.live_MS), self.own(masks.live_MS, 1)),
    )

  def deltas(self, components: dict[str, LowRank], masks: Masks) -> dict[str, Delta]:
    """Every module's low-rank term."""
    return {
      name: masks.delta(m, components[name].a_RI, self.scale * components[name].b_RO)
      for m, name in enumerate(self.packing.modules)
    }


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
  """Gradients and losses of one step, summed over rows and the data axis.

  Attributes:
    own_rMP: gradient of each worker's summed loss in its own components.
    head: gradient of the head rows' summed loss in the head.
    loss_r, weight_r: each worker's summed loss and weight.
    head_weight: weight of the head's rows.
  """

  own_rMP: jax.Array
  head: Any
  loss_r: jax.Array
  weight_r: jax.Array
  head_weight: jax.Array


def gradients(
  loss: LossFn,
  view: View,
  own_rMP: jax.Array | None,
  head: Any,
  model: Any,
  batch: Any,
  keys_B: jax.Array,
  *,
  head_rows: str,
  worker_axis: str,
  parts: int = 1,
) -> Sums:
  """Differentiates every row's loss in its owner's components, and in the head.

  Args:
    loss: of the rows.
    view: what the workers know.
    own_rMP: this device's components; None while they are still as broadcast, which
      saves the copies.
    head: the shared head.
    model: frozen parameters.
    batch: this device's rows.
    keys_B: noise of each row.
    head_rows: see `round.Deflation`.
    worker_axis: mesh axis over which joint rows are summed.
    parts: number of equal parts in which the rows are computed, one after the other,
      so that activations of one part alone are held.
  """
  of_rows = functools.partial(
    _gradients_of_rows, loss, view, own_rMP, head, model, batch, head_rows
  )
  sums = all_reduce(sum_by_parts(of_rows, (view.slots, keys_B), parts), view.row_axes)
  return _to_owners(sums, worker_axis) if view.has_joint else sums


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


def _gradients_of_rows(
  loss: LossFn,
  view: View,
  own_rMP: jax.Array | None,
  head: Any,
  model: Any,
  batch: Any,
  head_rows: str,
  part: tuple[Slots, jax.Array],
) -> Sums:
  """`gradients` over some of this device's slots alone."""
  slots, keys_B = part
  view = dataclasses.replace(view, slots=slots)
  rows = jax.tree.map(lambda x: x[slots.row_C], batch)
  valid_B = slots.valid_C.astype(jnp.float32)
  last_B = valid_B * (slots.owner_C == view.live - 1)
  head_B = last_B if head_rows == 'last' else None
  frozen = view.packing.unpack(view.everyone_SMP)
  if own_rMP is None:
    trained, masks = frozen, view.masks()
    join = lambda trained: trained
  else:
    trained, masks = view.packing.unpack(own_rMP), view.masks_behind()
    join = lambda trained: jax.tree.map(
      lambda a, b: jnp.concatenate([a, b]), frozen, trained
    )

  def total(trained: Any, head: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    deltas = view.deltas(join(trained), masks)
    loss_B, weight_B = loss(model, head, deltas, head_B, rows, keys_B)
    # A select and not a product: an idle slot must not contribute, even if not finite.
    loss_B = jnp.where(slots.valid_C, loss_B, 0.0)
    return jnp.sum(loss_B), (loss_B, weight_B * valid_B)

  (grad, grad_head), (loss_B, weight_B) = jax.grad(total, argnums=(0, 1), has_aux=True)(
    trained, head
  )
  grad_rMP = view.packing.pack(grad)
  own = (lambda x_S: x_S) if view.has_joint else view.own
  index_S = jnp.arange(view.everyone_SMP.shape[0])
  trains_BS = (index_S[None] == slots.owner_C[:, None]) | slots.joint_C[:, None]
  by_worker = lambda x_B: jnp.sum(jnp.where(trains_BS, x_B[:, None], 0.0), axis=0)
  return Sums(
    own_rMP=own(grad_rMP) if own_rMP is None else grad_rMP,
    head=grad_head,
    loss_r=own(by_worker(loss_B)),
    weight_r=own(by_worker(weight_B)),
    head_weight=jnp.sum(weight_B * (valid_B if head_B is None else head_B)),
  )


def _to_owners(sums: Sums, worker_axis: str) -> Sums:
  """Sums over devices that cover all workers, as each owner's part of the total."""
  if jax.lax.axis_size(worker_axis) == 1:
    return sums
  workers, *shape = sums.own_rMP.shape
  flat = jnp.concatenate(
    [sums.own_rMP.reshape(workers, -1), sums.loss_r[:, None], sums.weight_r[:, None]], 1
  )
  mine = jax.lax.psum_scatter(flat, worker_axis, scatter_dimension=0, tiled=True)
  own_rMP = mine[:, :-2].reshape(-1, *shape)
  return dataclasses.replace(
    sums, own_rMP=own_rMP, loss_r=mine[:, -2], weight_r=mine[:, -1]
  )


def mean_gradients(sums: Sums) -> jax.Array:
  """Gradient of each worker's mean loss; zero where a worker saw no row, (r, M, P)."""
  share_r = 1.0 / jnp.where(sums.weight_r > 0, sums.weight_r, jnp.inf)
  return sums.own_rMP * share_r[:, None, None]


def global_norms(grads_rMP: jax.Array) -> jax.Array:
  """Norm of each worker's whole gradient, (r,)."""
  return jnp.sqrt(jnp.sum(jnp.square(grads_rMP), axis=(1, 2)))


def step_components(
  optimizer: Optimizer,
  gate_rM: jax.Array,
  rate_rM: jax.Array,
  own_rMP: jax.Array,
  grads_rMP: jax.Array,
  moments: Any,
) -> tuple[jax.Array, Any]:
  """Clips by worker, then steps every component with its own state and rate."""
  clipped_rMP = jax.vmap(optimizer.clipped)(grads_rMP)
  one = jax.vmap(jax.vmap(optimizer.step))
  return one(rate_rM, own_rMP, clipped_rMP, moments, gate_rM)


def impact(
  packing: Packing, own_rMP: jax.Array, grads_rMP: jax.Array, active_Mr: jax.Array
) -> jax.Array:
  """Sum of |w dL/dw| over each module's active components on this device, (M,).

  Divided by the number of entries of one component, so that after summing over
  workers and dividing by the rank it is the mean over active entries.
  """
  sum_rM = jnp.sum(jnp.abs(own_rMP * grads_rMP), axis=2)
  return jnp.sum(sum_rM.T * active_Mr, axis=1) / packing.sizes_M
