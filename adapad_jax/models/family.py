"""What the loader has to know about a family of models."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from adapad_jax.models.head import Head


@dataclasses.dataclass(frozen=True)
class Runtime:
  """How a model computes, as opposed to what.

  Attributes:
    dtype: of the frozen parameters and the activations; norms, softmax and the
      trained head stay in float32.
    scan: run equal layers as one scanned layer (smaller programs).
    remat: recompute a layer's activations in the backward pass (less memory).
    fused: leave attention to `jax.nn.dot_product_attention`, which need not keep the
      scores in memory where the device has a kernel for it.
  """

  dtype: Any = jnp.float32
  scan: bool = False
  remat: bool = False
  fused: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
  """One model family of the Hugging Face layout.

  Attributes:
    name: `model_type` in config.json.
    read_config: config.json as a dict -> the family's frozen dataclass.
    build: (config, head, runtime, rngs) -> module whose attribute paths are the
      torch module names; parameters are called kernel, bias, scale, embedding.
    heads: kinds of head that `build` knows.
    prefixes: names of the backbone inside a model with a head ('bert'), by kind of
      head; a checkpoint of the bare backbone lacks them.
    head_modules: head -> paths of the modules that are trained with the adapters.
    targets: short name -> regex that a module path must match as a whole.
    old_names: (regex, replacement) pairs of names that tensors once had; a tensor
      under its new name beside one counts instead.
    renames: (regex, replacement) pairs applied in turn to all tensor names.
    ignorable: regexes of tensors that may be left unread.
    optional: regexes of tensors that a checkpoint may lack; they are drawn then.
    absent: regexes of parameters of ours that no checkpoint has a tensor for; they
      are drawn, and never written.
    splits: (regex of a parameter's path, axis counted from the end) of what several
      devices divide; see `models.split`.
  """

  name: str
  read_config: Callable[[Mapping[str, Any]], Any]
  build: Callable[[Any, Head, Runtime, nnx.Rngs], nnx.Module]
  heads: tuple[str, ...]
  prefixes: tuple[str, ...]
  head_modules: Callable[[Head], tuple[str, ...]]
  targets: Mapping[str, str]
  old_names: tuple[tuple[str, str], ...] = ()
  renames: tuple[tuple[str, str], ...] = ()
  ignorable: tuple[str, ...] = ()
  optional: tuple[str, ...] = ()
  absent: tuple[str, ...] = ()
  splits: tuple[tuple[str, int], ...] = ()
