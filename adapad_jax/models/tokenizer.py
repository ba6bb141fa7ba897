"""Tokenizers, through transformers."""

import pathlib
from typing import Any

from adapad_jax.models import sources

# One of these holds the vocabulary. Without any, transformers makes an empty
# tokenizer for some model types and says nothing.
_VOCABULARIES = (
  'tokenizer.json',
  'vocab.txt',
  'vocab.json',
  'spm.model',
  'tokenizer.model',
  'sentencepiece.bpe.model',
)
_LONGEST = 300  # characters of a library's message


# What else a tokenizer is read from.
_SETTINGS = (
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
)


def is_tokenizer_file(path: pathlib.Path) -> bool:
  """Whether a tokenizer is read from a file of that name."""
  return path.name in (*_VOCABULARIES, *_SETTINGS)


def load_tokenizer(source: str | sources.Source) -> Any:
  """Loads the tokenizer that belongs to a model.

  Args:
    source: as for `load`.

  Returns:
    A transformers tokenizer, with its chat template where the model has one.

  Raises:
    ValueError: if the source does not exist or holds no tokenizer.
  """
  folder = sources.find(source).folder
  have = sorted(path.name for path in folder.iterdir())
  if not set(have) & set(_VOCABULARIES):
    raise ValueError(
      f'{folder} holds no tokenizer: none of {_VOCABULARIES} is there, only {have}'
    )
  # Here, because it takes seconds, and brings torch in where that is installed.
  from transformers import AutoTokenizer

  try:
    return AutoTokenizer.from_pretrained(str(folder))
  # The libraries below raise Exception itself, and TypeErrors and the like from the
  # middle of what a damaged file made them do.
  except Exception as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(
      f'{folder} holds no tokenizer that can be loaded ({reason[:_LONGEST]}); it has'
      f' {have}'
    ) from error
