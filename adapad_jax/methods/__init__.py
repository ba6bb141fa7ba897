"""Ways to train adapters, by the name that a config gives."""

from collections.abc import Callable
from typing import Any

from adapad_jax.methods import (
  adalora,
  adapad,
  dylora,
  eva,
  full,
  head,
  increlora,
  lora,
  lora_one,
  matryoshka,
  sequential,
)
from adapad_jax.methods.method import Method, Private, RankReport
from adapad_jax.problem import Problem

# name -> (frozen dataclass of settings, (settings, problem) -> Method)
METHODS: dict[str, tuple[type, Callable[[Any, Problem], Method]]] = {
  'adapad': (adapad.AdaPaDSettings, adapad.build),
  'lora': (lora.LoRASettings, lora.build),
  'adalora': (adalora.AdaLoRASettings, adalora.build),
  'increlora': (increlora.IncreLoRASettings, increlora.build),
  'sequential': (sequential.SequentialSettings, sequential.build),
  'dylora': (dylora.DyLoRASettings, dylora.build),
  'matryoshka': (matryoshka.MatryoshkaSettings, matryoshka.build),
  'eva': (eva.EVASettings, eva.build),
  'lora_one': (lora_one.LoRAOneSettings, lora_one.build),
  'full': (full.FullSettings, full.build),
  'head': (head.HeadSettings, head.build),
}

# Methods that draw the directions of their components in a way of their own, whatever
# `adapter.init` says.
DRAWN_OTHERWISE = ('adalora', 'increlora')

__all__ = ['DRAWN_OTHERWISE', 'METHODS', 'Method', 'Private', 'Problem', 'RankReport']
