"""Adaptive-rank fine-tuning by parallel deflation (AdaPaD) in JAX.

Fine-tune, look, and take the adapter elsewhere:

    config = finetune_config({'data': {'task': 'rotten_tomatoes'}, ...})
    print(describe(make_plan(config)))       # what a run would do; reads no weights
    result = train(config, 'runs/mine')      # resumes what it finds there
    run = restore('runs/mine')               # run.evaluate(), run.predict(rows)
    export('runs/mine', 'adapter')           # for PEFT and transformers

Adapt a flax nnx model of your own:

    outcome = adapt(model, loss, columns, Recipe(steps=500))
    merge(model, cut_to_rank(outcome.adapter, 2))

Low-rank regression and PCA by the same method: `adapad_jax.regression`.

Nothing is imported, jax included, before it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from adapad_jax import regression as regression
  from adapad_jax.adapters import Targets, merge
  from adapad_jax.lowrank.prefixes import cut_to_rank
  from adapad_jax.methods.adapad import AdaPaDSettings
  from adapad_jax.optim import Optimizer
  from adapad_jax.own_model import Recipe, adapt
  from adapad_jax.report import write_report
  from adapad_jax.training import finetune_config, make_plan, train
  from adapad_jax.training.exports import export
  from adapad_jax.training.saved import restore
  from adapad_jax.training.summary import describe

__version__ = '0.1.0'

__all__ = [
  'AdaPaDSettings',
  'Optimizer',
  'Recipe',
  'Targets',
  'adapt',
  'cut_to_rank',
  'describe',
  'export',
  'finetune_config',
  'make_plan',
  'merge',
  'regression',
  'restore',
  'train',
  'write_report',
]

# Where each of them lives; a module is offered as it is.
_HOMES = {
  'AdaPaDSettings': 'methods.adapad',
  'Optimizer': 'optim',
  'Recipe': 'own_model',
  'Targets': 'adapters',
  'adapt': 'own_model',
  'cut_to_rank': 'lowrank.prefixes',
  'describe': 'training.summary',
  'export': 'training.exports',
  'finetune_config': 'training',
  'make_plan': 'training',
  'merge': 'adapters',
  'restore': 'training.saved',
  'train': 'training',
  'write_report': 'report',
}


def __getattr__(name: str) -> Any:
  """Imports what is offered when it is first asked for (PEP 562)."""
  if name == 'regression':
    return importlib.import_module('adapad_jax.regression')
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
