"""Adds a trained adapter to a model's own weights."""

import jax.numpy as jnp
from flax import nnx

from adapad_jax.adapters.locate import linears, parent_of
from adapad_jax.adapters.unadaptable import refuse
from adapad_jax.lowrank import Adapter
from adapad_jax.models.quantised import PackedLinear


def merge(model: nnx.Module, adapter: Adapter) -> nnx.Module:
  """Adds the updates to the kernels of `model`, in place, in float32; sets the head.

  Raises:
    ValueError: if the model has no such layer, an update has another shape than its
      kernel, or that is quantised or cannot be adapted.
  """
  have = linears(model)
  for name in (*adapter.modules, *adapter.head):
    if name not in have:
      raise ValueError(
        f'the adapter is of another model: this one has no linear layer {name}'
      )
  refuse(model, adapter.modules)
  refuse(model, adapter.head, whole=True)
  for name, update in adapter.modules.items():
    parent, leaf, layer = parent_of(model, name)
    if isinstance(linear := getattr(parent, leaf), PackedLinear):
      raise ValueError(
        f'the kernel of {name} is held as {linear.packing.form}, and a sum with its'
        " update would have to be rounded again; load the model with weights=''"
      )
    kernel = linear.kernel
    value, delta_IO = kernel[...], jnp.asarray(update.weight())
    if value.shape[-2:] != delta_IO.shape:
      raise ValueError(
        f'the update of {name} is {delta_IO.shape}, its kernel {value.shape[-2:]}'
      )
    at = slice(None) if layer is None else layer
    wide = value.astype(jnp.float32).at[at].add(delta_IO)
    kernel[...] = wide.astype(value.dtype)
  for name, params in adapter.head.items():
    parent, leaf, _ = parent_of(model, name)
    for kind, value in params.items():
      getattr(getattr(parent, leaf), kind)[...] = jnp.asarray(value)
  return model
