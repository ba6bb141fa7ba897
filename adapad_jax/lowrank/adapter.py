"""A trained adapter on the host: what is saved, exported and merged."""

import dataclasses

import numpy as np

from adapad_jax.lowrank.update import LowRank


@dataclasses.dataclass(frozen=True)
class Adapter:
  """Updates by module name, and the head that was trained with them.

  Attributes:
    modules: by the name of the module in torch's model, 'bert.encoder.layer.0...';
      float32, every scale being part of b.
    head: 'kernel' (in, out) and 'bias' of each linear layer of the head, by name.
    rescaled: whether an update that is cut from R to k components is multiplied by
      R / k, as `Deployed.rescaled` says.
  """

  modules: dict[str, LowRank]
  head: dict[str, dict[str, np.ndarray]]
  rescaled: bool = False

  @property
  def ranks(self) -> dict[str, int]:
    """Rank of every module."""
    return {name: update.rank for name, update in self.modules.items()}

  def parameters(self) -> int:
    """Number of adapter parameters, the head not counted."""
    return sum(u.a_RI.size + u.b_RO.size for u in self.modules.values())
