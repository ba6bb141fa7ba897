"""Re-ranking: a small adapter from any update of a model and some unlabelled text.

Each module's update is fitted at low rank on the module's own inputs, a bilinear
regression solved by parallel deflation in the metric of what the model's outputs feel,
and one budget of components is shared by what each of them explains.

Axis letters beside those of `adapters` and `regression`: M modules, N tokens.
"""

from adapad_jax.reranking.activations import input_moments
from adapad_jax.reranking.felt import Felt, felt_moments
from adapad_jax.reranking.rerank import Reranked, rerank
from adapad_jax.reranking.solve import Ordered, solve
from adapad_jax.reranking.svd import truncate
from adapad_jax.reranking.updates import Update, from_adapter, from_tuned

__all__ = [
  'Felt',
  'Ordered',
  'Reranked',
  'Update',
  'felt_moments',
  'from_adapter',
  'from_tuned',
  'input_moments',
  'rerank',
  'solve',
  'truncate',
]
