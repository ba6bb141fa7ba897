"""The convolution over neighbouring tokens beside DeBERTa-v2's first layer."""

from typing import Any

import jax
from flax import nnx

from adapad_jax.models import layers
from adapad_jax.models.deberta_config import DebertaConfig

_SITE = 3  # of dropout; no other call of the model has it


class Convolution(nnx.Module):
  """norm(y + act(dropout(conv(x)))): x goes into the first layer and y comes out.

  Follows section 5.2 of arXiv:2006.03654 as the v2 checkpoints compute it.
  """

  def __init__(self, config: DebertaConfig, dtype: Any, rngs: nnx.Rngs) -> None:
    size, width = config.hidden_size, config.conv_kernel_size
    self.conv = nnx.Conv(
      size,
      size,
      (width,),
      padding=[(width // 2, width // 2)],
      feature_group_count=config.conv_groups,
      dtype=dtype,
      param_dtype=dtype,
      rngs=rngs,
    )
    self.LayerNorm = layers.LayerNorm(size, config.layer_norm_eps)
    self.act = layers.activation(config.conv_act)
    self.rate = config.hidden_dropout_prob

  def __call__(
    self, x_BLD: jax.Array, y_BLD: jax.Array, keys_B: jax.Array | None
  ) -> jax.Array:
    """Hidden states (B, L, D); x is zero at padding, so that tokens see none of it."""
    mixed_BLD = layers.dropout(self.conv(x_BLD), keys_B, self.rate, _SITE)
    return self.LayerNorm(y_BLD + self.act(mixed_BLD))
