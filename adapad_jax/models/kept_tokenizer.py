"""What tokenises rows, kept between starts.

transformers takes a second to be imported, and makes a tokenizer for rows of texts out
of much else. What it has made is read again, as long as the files are the same and the
packages.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import pathlib
from collections.abc import Callable
from typing import Any

from adapad_jax.files import read_json, user_cache, write_atomically
from adapad_jax.models import sources
from adapad_jax.models.tokenizer import load_tokenizer

# Raise it when something else comes to be kept.
_VERSION = 1
_ATTRIBUTES = {
  'cls_token_id': int | None,
  'eos_token_id': int | None,
  'model_input_names': [str],
  'model_max_length': float,
  'pad_token_id': int | None,
  'truncation_side': str,
}
_SHAPE = {'tokens': str, 'attributes': _ATTRIBUTES}
# Endings of all files that one of transformers' tokenizers is read from.
_READ = (
  *('.json', '.txt', '.model', '.spm', '.codes', '.bpe', '.vocab'),
  *('.tokenizer', '.tiktoken', '.jinja'),
)


@dataclasses.dataclass(frozen=True)
class KeptTokenizer:
  """A fast transformers tokenizer, which is loaded for what is not kept of it.

  Attributes:
    tokens: see `as_json`.
    attributes: values by their names.
    load: loads it.
  """

  tokens: str
  attributes: dict[str, Any]
  load: Callable[[], Any]

  @property
  def is_fast(self) -> bool:
    """Always: others are not kept."""
    return True

  @functools.cached_property
  def _read(self) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(self.tokens)

  @functools.cached_property
  def whole(self) -> Any:
    """The tokenizer of transformers."""
    return self.load()

  def get_vocab(self) -> dict[str, int]:
    """Ids by token, added ones included."""
    return self._read.get_vocab(with_added_tokens=True)

  def num_special_tokens_to_add(self, pair: bool = False) -> int:
    """Tokens around a text, or around and between two."""
    return self._read.num_special_tokens_to_add(pair)

  def __getattr__(self, name: str) -> Any:
    if name.startswith('__'):
      raise AttributeError(name)
    if name in self.attributes:
      return self.attributes[name]
    return getattr(self.whole, name)

  def __call__(self, *args: Any, **options: Any) -> Any:
    """What the tokenizer of transformers makes of texts."""
    return self.whole(*args, **options)

  def __len__(self) -> int:
    return self._read.get_vocab_size(with_added_tokens=True)


def backend(tokenizer: Any) -> Any:
  """What does a fast tokenizer's work, without what its last call asked for."""
  if isinstance(tokenizer, KeptTokenizer):
    return tokenizer._read
  found = tokenizer.backend_tokenizer
  found.no_padding()
  found.no_truncation()
  return found


def as_json(tokenizer: Any) -> str:
  """The same in the format of tokenizer.json.

  Of a tokenizer that is kept as it was written: what is read from there differs in the
  last bit of a score now and then.
  """
  if isinstance(tokenizer, KeptTokenizer):
    return tokenizer.tokens
  return backend(tokenizer).to_str()


def kept_tokenizer(source: sources.Source) -> Any:
  """The tokenizer of a model as `load_tokenizer` has it, or what is kept of it.

  Raises:
    ValueError: if the source holds no tokenizer.
  """
  load = functools.partial(load_tokenizer, source)
  try:
    path = user_cache() / 'tokenizers' / f'{_key(source.folder)}.json'
  except OSError:  # What cannot be read there may not matter.
    return load()
  with contextlib.suppress(OSError, ValueError):
    return KeptTokenizer(**_kept(path), load=load)
  tokenizer = load()
  if tokenizer.is_fast:
    _keep(path, tokenizer)
  return tokenizer


def _kept(path: pathlib.Path) -> dict[str, Any]:
  values = read_json(path, _SHAPE)
  return {name: values[name] for name in _SHAPE}


def _keep(path: pathlib.Path, tokenizer: Any) -> None:
  values = {
    'tokens': as_json(tokenizer),
    'attributes': {name: getattr(tokenizer, name) for name in _ATTRIBUTES},
  }
  text = json.dumps(values, ensure_ascii=False)
  with contextlib.suppress(OSError):  # Then the next start loads it, too.
    write_atomically(path, lambda file: file.write(text))


def _key(folder: pathlib.Path) -> str:
  """Names what a tokenizer is read from, and what reads it."""
  releases = [importlib.metadata.version(x) for x in ('transformers', 'tokenizers')]
  found = hashlib.sha256(json.dumps([_VERSION, *releases]).encode())
  for path in sorted(folder.iterdir()):
    read = path.name.endswith(_READ) and path.is_file()
    content = hashlib.sha256(path.read_bytes()).hexdigest() if read else ''
    found.update(json.dumps([path.name, content]).encode())
  return found.hexdigest()[:32]
