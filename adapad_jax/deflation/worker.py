"""What a device's workers do in one local step, without any communication by worker.

Sums over the data axis happen here, once a step and as one buffer; nothing here
crosses the worker axis.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from adapad_jax.deflation.components import Component
from adapad_jax.deflation.feeding import Slots
from adapad_jax.deflation.lowrank import Delta, Masks
from adapad_jax.deflation.optimizer import Optimizer, apply

# loss(model, head, deltas, head_weight_B or None, batch, keys_B) -> (loss_B, weight_B):
# each row's summed loss and its weight; a mean loss is sum(loss) / sum(weight).
LossFn = Callable[..., tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class View:
  """What this device's workers know during a round.

  Attributes:
    modules: names of the adapted modules, the order of every M axis. (The order of
      a dict does not survive jax transforms.)
    everyone: all components as broadcast at the round's start, frozen.
    active_MS, live_MS: who is deployed and who trains, by module.
    slots: the rows computed here and their owners.
    first: index of this device's first worker.
    live: number of live workers.
  """

  modules: tuple[str, ...]
  everyone: dict[str, Component]
  active_MS: jax.Array
  live_MS: jax.Array
  slots: Slots
  first: jax.Array
  live: jax.Array

  def masks(self, workers: int) -> Masks:
    """Masks over [everyone; own]: predecessors in front, own components behind."""
    width = self.active_MS.shape[1]
    owner_B1 = self.slots.owner_C[:, None]
    before_BS = jnp.arange(width)[None] < owner_B1
    own_Br = jnp.arange(workers)[None] + self.first == owner_B1
    live_Mr = jax.lax.dynamic_slice_in_dim(self.live_MS, self.first, workers, axis=1)
    pad = lambda x, before, after: jnp.pad(
      x.astype(jnp.float32), ((0, 0), (before, after))
    )
    return Masks(
      before_BS=pad(before_BS, 0, workers),
      own_BS=pad(own_Br, width, 0),
      active_MS=pad(self.active_MS, 0, workers),
      live_MS=pad(live_Mr, width, 0),
    )

  def deltas(self, own: dict[str, Component], scale: float) -> dict[str, Delta]:
    """Every module's low-rank term; only `own` carries gradients."""
    masks = self.masks(next(iter(own.values())).a_RI.shape[0])
    stack = lambda frozen, mine: jnp.concatenate([jax.lax.stop_gradient(frozen), mine])
    both = jax.tree.map(stack, self.everyone, own)
    return {
      name: masks.delta(m, both[name].a_RI, scale * both[name].b_RO)
      for m, name in enumerate(self.modules)
    }


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
  """Gradients and losses of one step, summed over rows and the data axis.

  Attributes:
    own: gradient of each worker's summed loss in its own components.
    head: gradient of the head rows' summed loss in the head.
    loss_r, weight_r: each worker's summed loss and weight.
    head_weight: weight of the head's rows.
  """

  own: dict[str, Component]
  head: Any
  loss_r: jax.Array
  weight_r: jax.Array
  head_weight: jax.Array


def gradients(
  loss: LossFn,
  view: View,
  own: dict[str, Component],
  head: Any,
  model: Any,
  batch: Any,
  keys_B: jax.Array,
  *,
  scale: float,
  head_rows: str,
  data_axis: str,
) -> Sums:
  """Differentiates every row's loss in its owner's components, and in the head."""
  slots = view.slots
  rows = jax.tree.map(lambda x: x[slots.row_C], batch)
  valid_B = slots.valid_C.astype(jnp.float32)
  last_B = valid_B * (slots.owner_C == view.live - 1)
  head_B = last_B if head_rows == 'last' else None

  def total(own: Any, head: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    deltas = view.deltas(own, scale)
    loss_B, weight_B = loss(model, head, deltas, head_B, rows, keys_B)
    # A select and not a product: an idle slot must not contribute, even if not finite.
    loss_B = jnp.where(slots.valid_C, loss_B, 0.0)
    return jnp.sum(loss_B), (loss_B, weight_B * valid_B)

  (grad_own, grad_head), (loss_B, weight_B) = jax.grad(
    total, argnums=(0, 1), has_aux=True
  )(own, head)
  workers = next(iter(own.values())).a_RI.shape[0]
  own_Br = jnp.arange(workers)[None] + view.first == slots.owner_C[:, None]
  by_worker = lambda x_B: jnp.sum(jnp.where(own_Br, x_B[:, None], 0.0), axis=0)
  head_weight = jnp.sum(weight_B * (valid_B if head_B is None else head_B))
  sums = Sums(grad_own, grad_head, by_worker(loss_B), by_worker(weight_B), head_weight)
  return all_reduce(sums, data_axis)


def all_reduce(tree: Any, axis_name: str) -> Any:
  """Sums a tree over a mesh axis: one all-reduce of one buffer."""
  if jax.lax.axis_size(axis_name) == 1:
    return tree
  flat, unravel = ravel_pytree(tree)
  return unravel(jax.lax.psum(flat, axis_name))


def mean_gradients(sums: Sums) -> dict[str, Component]:
  """Gradient of each worker's mean loss; zero where a worker saw no row."""
  share_r = 1.0 / jnp.where(sums.weight_r > 0, sums.weight_r, jnp.inf)
  return jax.tree.map(lambda g_rX: g_rX * share_r[:, None], sums.own)


def global_norms(grads: dict[str, Component]) -> jax.Array:
  """Norm of each worker's whole gradient, (r,)."""
  return jax.vmap(optax.tree.norm)(grads)


def step_components(
  modules: Sequence[str],
  optimizer: Optimizer,
  gate_rM: jax.Array,
  rate_rM: jax.Array,
  own: dict[str, Component],
  grads: dict[str, Component],
  moments: dict[str, Any],
) -> tuple[dict[str, Component], dict[str, Any]]:
  """Clips by worker, then steps every component with its own state and rate."""
  clipper, transform = optimizer.clipper(), optimizer.transform()
  clip = lambda g: clipper.update(g, clipper.init(g))[0]
  grads = jax.vmap(clip)(grads)

  @jax.jit
  def step(gate_r, rate_r, own, grad, moments):  # noqa: ANN001, ANN202
    one = lambda *args: apply(transform, *args)
    return jax.vmap(one)(gate_r, rate_r, own, grad, moments)

  stepped = {
    name: step(gate_rM[:, m], rate_rM[:, m], own[name], grads[name], moments[name])
    for m, name in enumerate(modules)
  }
  return (
    {name: pair[0] for name, pair in stepped.items()},
    {name: pair[1] for name, pair in stepped.items()},
  )


def impact(
  modules: Sequence[str],
  own: dict[str, Component],
  grads: dict[str, Component],
  active_Mr: jax.Array,
) -> jax.Array:
  """Sum of |w dL/dw| over each module's active components on this device, (M,).

  Divided by the number of entries of one component, so that after summing over
  workers and dividing by the rank it is the mean over active entries.
  """

  def of_module(c: Component, g: Component) -> jax.Array:
    size = c.a_RI.shape[1] + c.b_RO.shape[1]
    both = jnp.sum(jnp.abs(c.a_RI * g.a_RI), 1) + jnp.sum(jnp.abs(c.b_RO * g.b_RO), 1)
    return both / size

  impact_Mr = jnp.stack([of_module(own[name], grads[name]) for name in modules])
  return jnp.sum(impact_Mr * active_Mr, axis=1)
