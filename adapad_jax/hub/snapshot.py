"""One commit of a repository: what it holds, and the files of it that are wanted."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

import huggingface_hub
from huggingface_hub import constants

from adapad_jax.hub import cache, faults
from adapad_jax.hub.faults import HubError
from adapad_jax.hub.repository import Repository
from adapad_jax.origins import HubCommit

T = TypeVar('T')

# A file of that many bytes gets a progress bar.
_LARGE = 2**20


@dataclasses.dataclass(frozen=True)
class Snapshot:
  """A commit.

  Attributes:
    repository: as it was asked for.
    commit: 40 hexadecimal digits.
    sizes: bytes of each of its files, by name; None where the hub does not say.
    failure: why the hub could not be asked; then the local cache is all there is.
  """

  repository: Repository
  commit: str
  sizes: cache.Sizes
  failure: str = ''

  @property
  def origin(self) -> HubCommit:
    """What to write down, to read the same again."""
    return HubCommit(self.repository.name, self.repository.asked, self.commit)

  @property
  def folder(self) -> pathlib.Path:
    """Where its files lie that are here."""
    return cache.snapshot_of(self.repository, self.commit)

  def absent(self, names: Collection[str]) -> list[str]:
    """Those of the names that are not here yet."""
    return [name for name in names if not (self.folder / name).is_file()]

  def fetch(self, names: Collection[str]) -> pathlib.Path:
    """Downloads what is not here yet; each file appears whole or not at all.

    Returns:
      The folder.

    Raises:
      HubError: if one cannot be had.
    """
    for name in self.absent(names):
      if self.failure:
        raise HubError(
          self.repository,
          f'{self.failure}; commit {self.commit[:12]} in the local cache lacks {name}',
        )
      self._download(name)
    return self.folder

  def keep(self) -> None:
    """Makes this the commit that is used where the hub cannot be asked.

    Called when everything that is needed of it is here.
    """
    if not self.failure:
      cache.keep_commit(self.repository, self.commit)

  def _download(self, name: str) -> None:
    download = lambda: huggingface_hub.hf_hub_download(
      self.repository.name,
      name,
      repo_type=self.repository.kind,
      revision=self.commit,
      etag_timeout=constants.HF_HUB_ETAG_TIMEOUT,
    )
    with _bar(self.sizes.get(name)):
      faults.call(download, self.repository)


@contextlib.contextmanager
def _bar(size: int | None) -> Iterator[None]:
  """Shows no progress of a small file: a line each would bury everything else."""
  from huggingface_hub import utils

  if utils.are_progress_bars_disabled() or size is None or size >= _LARGE:
    yield
    return
  utils.disable_progress_bars()
  try:
    yield
  finally:
    utils.enable_progress_bars()


def take(repository: Repository, use: Callable[[Snapshot], T]) -> T:
  """Uses the commit that a revision is now, or else the one in the local cache.

  Args:
    repository: what is wanted.
    use: fetches files of a commit and makes something of them.

  Returns:
    What `use` made.

  Raises:
    HubError: if the hub fails and the cache does not have what `use` fetches. The
      hub's failure is the one that is told.
  """
  found = None
  try:
    found = _now(repository)
    return use(found)
  except HubError as error:
    failure = error
  commit = cache.commit_of(repository)
  if not commit or (found is not None and found.commit == commit):
    raise failure
  sizes = cache.listing_of(repository, commit) or cache.fetched(repository, commit)
  if not sizes:  # A branch that was looked up, and nothing fetched of it.
    raise failure
  made = use(Snapshot(repository, commit, sizes, failure.reason))
  if not constants.is_offline_mode():
    logging.getLogger(__name__).warning(
      '%s: %s; using commit %s from the local cache',
      repository,
      failure.reason,
      commit[:12],
    )
  return made


def _now(repository: Repository) -> Snapshot:
  """The commit that a revision is now; a commit that was seen before costs no request.

  Raises:
    HubError: if the hub cannot tell.
  """
  if repository.is_pinned:
    sizes = cache.listing_of(repository, repository.revision)
    if sizes is not None:
      return Snapshot(repository, repository.revision, sizes)
  ask = lambda: huggingface_hub.HfApi().repo_info(
    repository.name,
    repo_type=repository.kind,
    revision=repository.revision or None,
    timeout=constants.HF_HUB_ETAG_TIMEOUT,
    files_metadata=True,
  )
  # What is in the cache need not be waited for as patiently.
  info = faults.call(ask, repository, 2 if cache.commit_of(repository) else 4)
  sizes = {file.rfilename: file.size for file in info.siblings or ()}
  cache.keep_listing(repository, info.sha, sizes)
  return Snapshot(repository, info.sha, sizes)
