"""The update as it is used once training stands still."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adapad_jax.lowrank.adapter import Adapter
from adapad_jax.lowrank.masked import Delta
from adapad_jax.lowrank.prefixes import cut_to_ranks
from adapad_jax.lowrank.update import LowRank


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Deployed:
  """Delta W_m = sum_k active[m, k] a_k^T b_k for every module, and the head.

  Attributes:
    components: by module; every scale is part of b.
    active_MS: 1 where a component is part of its module's update.
    head: the trained head.
    changes: what was added to the model's own parameters, a tree of their structure;
      None where they are frozen.
    rescaled: whether a module's update that is cut to k of its S components is
      multiplied by S / k, for methods that train it so.
  """

  components: dict[str, LowRank]
  active_MS: jax.Array
  head: dict[str, dict[str, jax.Array]]
  changes: Any = None
  rescaled: bool = dataclasses.field(default=False, metadata={'static': True})

  def backbone(self, params: Any) -> Any:
    """The model's parameters with the changes."""
    if self.changes is None:
      return params
    return jax.tree.map(lambda p, c: (p + c).astype(p.dtype), params, self.changes)

  def deltas(
    self, modules: tuple[str, ...], rows: int, prefix: ArrayLike
  ) -> dict[str, Delta]:
    """The update cut to the first `prefix` components of every module.

    Args:
      modules: names in the order of the M axis.
      rows: rows of the batch it will meet.
      prefix: number of components to keep; may be traced.
    """
    if not self.active_MS.shape[1]:
      return {}
    width = self.active_MS.shape[1]
    kept_S = (jnp.arange(width) < prefix).astype(jnp.float32)
    nothing_BS = jnp.zeros((rows, width))
    found = {}
    for m, name in enumerate(modules):
      one, sees_S = self.components[name], self.active_MS[m] * kept_S
      if self.rescaled:
        one = one.scaled(width / jnp.maximum(jnp.sum(sees_S), 1))
      sees_BS = jnp.broadcast_to(sees_S, nothing_BS.shape)
      found[name] = Delta(one.a_RI, one.b_RO, sees_BS, nothing_BS)
    return found


def host_adapter(modules: tuple[str, ...], deployed: Deployed) -> Adapter:
  """An update on the host, inactive components left out.

  Raises:
    ValueError: if the model's own parameters were changed: that is no adapter.
  """
  if deployed.changes is not None:
    raise ValueError(
      'this run changed every parameter of the model (method full), which no adapter'
      ' can hold; use its checkpoints, or train with another method'
    )
  host = jax.device_get(deployed)
  ranks = {name: int(host.active_MS[m].sum()) for m, name in enumerate(modules)}
  # A dict that went through a compiled program is in the order of its keys.
  updates = {name: host.components[name] for name in modules}
  return cut_to_ranks(Adapter(updates, host.head, host.rescaled), ranks)
