"""The update as it is used once training stands still."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from adapad_jax.lowrank.adapter import Adapter
from adapad_jax.lowrank.masked import Delta
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
  """

  components: dict[str, LowRank]
  active_MS: jax.Array
  head: dict[str, dict[str, jax.Array]]
  changes: Any = None

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
    index_S = jnp.arange(self.active_MS.shape[1])
    kept_S = (index_S < prefix).astype(jnp.float32)
    nothing_BS = jnp.zeros((rows, self.active_MS.shape[1]))
    return {
      name: Delta(
        self.components[name].a_RI,
        self.components[name].b_RO,
        jnp.broadcast_to(self.active_MS[m] * kept_S, nothing_BS.shape),
        nothing_BS,
      )
      for m, name in enumerate(modules)
    }


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
  updates = {name: host.components[name].cut(rank) for name, rank in ranks.items()}
  return Adapter(updates, host.head)
