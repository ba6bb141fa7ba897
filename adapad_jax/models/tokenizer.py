"""Tokenizers, through transformers."""

from typing import Any

from adapad_jax.models import sources


def load_tokenizer(source: str) -> Any:
  """Loads the tokenizer that belongs to a model.

  Args:
    source: as for `load`.

  Returns:
    A transformers tokenizer, with its chat template where the model has one.

  Raises:
    ValueError: if the source does not exist or holds no tokenizer.
  """
  # Here, because it takes seconds, and brings torch in where that is installed.
  from transformers import AutoTokenizer

  folder = sources.resolve(source, weights=False)
  try:
    return AutoTokenizer.from_pretrained(str(folder))
  except (OSError, ValueError, KeyError) as error:
    have = sorted(path.name for path in folder.iterdir())
    raise ValueError(
      f'{folder} holds no tokenizer that can be loaded ({error}); it has {have}'
    ) from error
