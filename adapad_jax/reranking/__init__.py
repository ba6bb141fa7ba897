"""Re-ranking: a small adapter from any update of a model and some text.

Each module's update is fitted at low rank on the module's own inputs, a bilinear
regression solved by parallel deflation in the metric of the model's outputs,
and one budget of components or parameters is shared by what each of them explains.

Axis letters beside those of `adapters` and `regression`: M modules, N tokens.
"""

from adapad_jax.reranking.activations import input_moments, text_lengths
from adapad_jax.reranking.kfac import KroneckerFactors, kronecker_factors
from adapad_jax.reranking.rerank import (
  Reranked,
  alike,
  fit,
  spend,
  spend_parameters,
  within,
)
from adapad_jax.reranking.solve import Ordered, solve
from adapad_jax.reranking.truncate import truncate
from adapad_jax.reranking.updates import Update, from_adapter, from_tuned

__all__ = [
  'KroneckerFactors',
  'Ordered',
  'Reranked',
  'Update',
  'alike',
  'fit',
  'kronecker_factors',
  'from_adapter',
  'from_tuned',
  'input_moments',
  'solve',
  'spend',
  'spend_parameters',
  'text_lengths',
  'truncate',
  'within',
]
