"""Between adapters on the host and what training and evaluation keep on devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from adapad_jax.deflation.state import State
from adapad_jax.lowrank import Adapter, Deployed, LowRank, Packing
from adapad_jax.lowrank.update import padded
from adapad_jax.sharding import put


def deploy_adapter(adapter: Adapter, modules: tuple[str, ...]) -> Deployed:
  """An adapter as evaluation uses it, on every device of the current mesh.

  Args:
    adapter: updates of these modules.
    modules: names in the order of the M axis.
  """
  width = max(max(adapter.ranks.values()), 1)
  wide = {name: padded(adapter.modules[name], width) for name in modules}
  rank_M1 = np.array([[adapter.modules[name].rank] for name in modules])
  active_MS = (np.arange(width)[None] < rank_M1).astype(np.float32)
  return put(Deployed(wide, active_MS, adapter.head))


def adopt(state: State, adapter: Adapter, scale: float) -> State:
  """A run's first state with the components of an adapter in the place of its own.

  Optimisers start anew; modules keep the adapter's ranks and may grow from there.

  Args:
    state: as the method starts.
    adapter: updates of the run's modules, in their order.
    scale: the constant in front of the run's updates; divides b.

  Raises:
    ValueError: if the method has another kind of state, or a rank is too large.
  """
  if not isinstance(state, State):
    raise ValueError(
      f'an adapter cannot be imported into a {type(state).__name__}; use method=adapad'
    )
  largest, capacity = max(adapter.ranks.values()), len(state.stack_RMP)
  if largest > capacity:
    raise ValueError(f'the adapter has rank {largest}, r_max is {capacity}')
  pairs = {n: (u.a_RI.shape[1], u.b_RO.shape[1]) for n, u in adapter.modules.items()}
  packing = Packing.of(pairs)
  components = {
    name: _overlaid(own, adapter.modules[name], scale)
    for name, own in packing.unpack(state.stack_RMP).items()
  }
  rank_M = jnp.array(list(adapter.ranks.values()), jnp.int32)
  first_MR = jnp.arange(capacity)[None] < rank_M[:, None]
  granted_MR = jnp.where(first_MR, 0, -1).astype(jnp.int32)
  ranks = dataclasses.replace(state.ranks, rank_M=rank_M, granted_MR=granted_MR)
  head = jax.tree.map(jnp.asarray, adapter.head)
  stack_RMP = packing.pack(components)
  return dataclasses.replace(state, stack_RMP=stack_RMP, ranks=ranks, head=head)


def _overlaid(own: LowRank, update: LowRank, scale: float) -> LowRank:
  """The update's components first, the run's own random ones behind them."""
  return LowRank(
    a_RI=own.a_RI.at[: update.rank].set(update.a_RI),
    b_RO=own.b_RO.at[: update.rank].set(update.b_RO / np.float32(scale)),
  )
