"""From files to the documents of each split, read when they are asked for."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adapad_jax.tasks.config import DataConfig
from adapad_jax.tasks.facts import Facts, Unavailable, require_same, require_same_files
from adapad_jax.tasks.sft.chat import Chat
from adapad_jax.tasks.sft.encode import Encoder
from adapad_jax.tasks.sft.layouts import Columns
from adapad_jax.tasks.sft.reading import Rows, splits_of
from adapad_jax.tasks.sft.rows import Documents, documents, drawn, held_out, weighted
from adapad_jax.tasks.sft.store import Store
from adapad_jax.tasks.sft.template import load_template
from adapad_jax.tasks.sft.tokenise import (
  Tokenisation,
  digest_of_tokenizer,
  tokenise_all,
)

# Of the training rows, where there is neither validation data nor data.holdout.
_HELD_OUT = 0.05
TEMPLATE = 'chat template'


@dataclasses.dataclass(frozen=True)
class Source:
  """Everything that makes splits.

  Attributes:
    config: as given.
    chat: the template and the tokenizer.
    tokenisation: how rows become tokens.
    then: what a run has recorded of its data; they must still be that.
  """

  config: DataConfig
  chat: Chat
  tokenisation: Tokenisation
  then: Facts | None = None
  _kept: dict[str, Documents] = dataclasses.field(default_factory=dict, repr=False)

  @classmethod
  def of(cls, config: DataConfig, tokenizer: Any, then: Facts | None) -> 'Source':
    """Reads the template, and no data.

    Raises:
      ValueError: if there is no such template, or it is not that of the run.
    """
    if then is not None and TEMPLATE in then.sources:
      for file in then.sources[TEMPLATE].files:
        require_same('the chat template of this run', file)
    encoder = Encoder.of(tokenizer)
    columns = Columns(
      config.prompt, config.completion, config.messages, config.chat.strings
    )
    template = load_template(config.chat.template, tokenizer)
    tokenisation = Tokenisation(
      template=template,
      loss=config.chat.loss,
      columns=columns,
      drop=config.bad_rows == 'drop',
      tokenizer=digest_of_tokenizer(encoder),
    )
    chat = Chat(template, encoder, tokenizer, columns)
    return cls(config, chat, tokenisation, then)

  @functools.cached_property
  def files(self) -> Mapping[str, Sequence[Rows]]:
    """Rows by split of the source, as far as they are found now."""
    return splits_of(self.config)

  def rows(self, name: str) -> Sequence[Rows]:
    """Rows of a split of the source.

    Raises:
      Unavailable: if their files are not those of the run.
    """
    if self.then is None:
      return self.files[name]
    then = self.then.sources[name]
    require_same_files(name, then)
    try:
      found = self.files[name]
    except (ValueError, KeyError, OSError) as error:
      raise Unavailable(
        f'the {name} data of this run cannot be read any more: {error}'
      ) from error
    now = sorted(str(path.absolute()) for rows in found for path in rows.files)
    if now != sorted(file.path for file in then.files):
      raise Unavailable(
        f'the {name} data of this run were {[file.path for file in then.files]}, now'
        f' {now} would be read'
      )
    return found

  @property
  def names(self) -> list[str]:
    """The splits of the task: 'dev' is validation data where a part is held out."""
    others = [n for n in self.files if n not in ('train', 'validation')]
    dev = ['dev'] if 'validation' in self.files and self.config.holdout else []
    return ['train', 'validation', *dev, *others]

  def origin(self, name: str) -> str:
    """The split of the source that a split of the task is a part of."""
    known = self.files if self.then is None else self.then.sources
    if name == 'validation' and (self.config.holdout or name not in known):
      return 'train'
    return 'validation' if name == 'dev' else name

  def documents(self, name: str) -> Documents:
    """The rows of a split that are left, cut to length."""
    if name not in self._kept:
      self._kept[name] = self._documents(name)
    return self._kept[name]

  def _documents(self, name: str) -> Documents:
    origin, config = self.origin(name), self.config
    files = self.rows(origin)
    store = self.store(files, origin)
    self._require_count(origin, store)
    index_N = np.arange(len(store))
    if name in ('train', 'validation'):
      train_N, held_N = self._parts(store)
      index_N = held_N if name == 'validation' else train_N
      if name == 'train':
        index_N = weighted(store, index_N, config.weights, len(files))
      most = config.max_train_rows if name == 'train' else config.max_eval_rows
      index_N = drawn(index_N, most)
    # Where a part is held out, bad rows count to what is left.
    return self._fitting(store, index_N, files, name in (origin, 'dev'))

  def _require_count(self, origin: str, store: Store) -> None:
    """What is of a hub has no files whose bytes could be compared."""
    then = None if self.then is None else self.then.sources[origin].rows
    if then not in (None, store.rows_read):
      raise Unavailable(
        f'the {origin} data of this run had {then} rows, now they have'
        f' {store.rows_read}'
      )

  def _parts(self, store: Store) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a store to train on, and to validate on."""
    share = self.config.holdout
    if not share and self.origin('validation') == 'train':
      share = _HELD_OUT
    every_N = np.arange(len(store))
    return held_out(len(store), share) if share else (every_N, every_N)

  def read(self, files: Sequence[Rows]) -> Documents:
    """All rows of other files."""
    store = self.store(files, 'input')
    return self._fitting(store, np.arange(len(store)), files)

  def store(self, files: Sequence[Rows], name: str) -> Store:
    """Tokens of some files."""
    cache = self.config.cache
    return tokenise_all(files, self.tokenisation, self.chat.encoder, cache, name)

  def _fitting(
    self,
    store: Store,
    index_N: np.ndarray,
    files: Sequence[Rows],
    counts_bad: bool = True,
  ) -> Documents:
    """Some rows of a store, as far as they fit."""
    most, too_long = self.config.max_length, self.config.chat.too_long
    return documents(store, index_N, most, too_long, files, counts_bad=counts_bad)
