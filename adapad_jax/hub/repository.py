"""Repositories of the hub, as users name them."""

import dataclasses
import re

import huggingface_hub.constants

DEFAULT = huggingface_hub.constants.DEFAULT_REVISION
_ID = re.compile(r'(?P<name>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?')
_COMMIT = re.compile(r'[0-9a-f]{40}')
_WORDS = {'model': 'model', 'dataset': 'data set'}


@dataclasses.dataclass(frozen=True)
class Repository:
  """A repository, and which of its states.

  Attributes:
    name: OWNER/NAME, or NAME alone where the hub has such.
    kind: 'model' (adapters too) or 'dataset'.
    revision: a branch, tag or commit; '' means the main branch.
  """

  name: str
  kind: str = 'model'
  revision: str = ''

  def __str__(self) -> str:
    at = f'@{self.revision}' if self.revision else ''
    return f'{_WORDS[self.kind]} {self.name}{at}'

  @property
  def asked(self) -> str:
    """The revision, spelled out."""
    return self.revision or DEFAULT

  @property
  def is_pinned(self) -> bool:
    """Whether the revision is a commit, which never changes."""
    return bool(_COMMIT.fullmatch(self.revision))

  @property
  def url(self) -> str:
    """Its page."""
    middle = 'datasets/' if self.kind == 'dataset' else ''
    return f'{huggingface_hub.constants.ENDPOINT}/{middle}{self.name}'


def is_id(text: str, *, owner: bool = False) -> bool:
  """Whether a text could be the id of a repository: NAME, OWNER/NAME, ...@REVISION.

  Args:
    text: what a user gave.
    owner: OWNER/ is required, as where file names are the usual thing.
  """
  found = _ID.fullmatch(text)
  if not found or text.startswith('.') or '..' in found['name']:
    return False
  return '/' in found['name'] or not owner


def parse(text: str, kind: str, revision: str = '') -> Repository:
  """The repository that an id means.

  Args:
    text: NAME, OWNER/NAME, or either with @REVISION behind it.
    kind: 'model' or 'dataset'.
    revision: the same said in another place; '' if it was not.

  Raises:
    ValueError: if the text is no id, or two revisions are given.
  """
  found = _ID.fullmatch(text) if is_id(text) else None
  if found is None:
    raise ValueError(f'{text!r} is not the id of a {_WORDS[kind]}: OWNER/NAME@REVISION')
  own = found['revision'] or ''
  if own and revision and own != revision:
    raise ValueError(
      f'{text!r} and revision={revision!r} ask for two revisions; give one of them'
    )
  return Repository(found['name'], kind, own or revision)
