"""What the local cache of the hub's library holds.

Layout, as https://huggingface.co/docs/huggingface_hub/guides/manage-cache has it: a
folder models--OWNER--NAME with refs/REVISION, which holds a commit, and
snapshots/COMMIT/, which holds the files that were fetched, each of them whole. That
does not tell which files the commit has beside them, so a listing is kept as well:
adapad_jax/COMMIT.json.
"""

import contextlib
import pathlib
from collections.abc import Mapping

import huggingface_hub.constants

from adapad_jax.files import read_json, write_atomically, write_json
from adapad_jax.hub.repository import Repository

Sizes = Mapping[str, int | None]


def folder_of(repository: Repository) -> pathlib.Path:
  """Where a repository lies, whether or not there is anything yet."""
  name = '--'.join([f'{repository.kind}s', *repository.name.split('/')])
  return pathlib.Path(huggingface_hub.constants.HF_HUB_CACHE).expanduser() / name


def snapshot_of(repository: Repository, commit: str) -> pathlib.Path:
  """The folder of the files of a commit."""
  return folder_of(repository) / 'snapshots' / commit


def commit_of(repository: Repository) -> str:
  """The commit that a revision was when it was last fetched; '' if it never was."""
  if repository.is_pinned:
    there = snapshot_of(repository, repository.revision).is_dir()
    return repository.revision if there else ''
  ref = folder_of(repository) / 'refs' / repository.asked
  if ref.is_file():
    return ref.read_text().strip()
  if repository.revision:
    return ''
  # Fetched by commit alone: there is no doubt as long as it is the only one.
  commits = [path.name for path in (folder_of(repository) / 'snapshots').glob('*')]
  return commits[0] if len(commits) == 1 else ''


def listing_of(repository: Repository, commit: str) -> Sizes | None:
  """Sizes of the files of a commit by name, None if they were never listed."""
  path = _listing(repository, commit)
  with contextlib.suppress(ValueError, OSError):
    found = read_json(path)
    if isinstance(found, dict) and isinstance(found.get('files'), dict):
      return found['files']
  return None


def fetched(repository: Repository, commit: str) -> Sizes:
  """Sizes of the files of a commit that are here."""
  folder = snapshot_of(repository, commit)
  files = sorted(path for path in folder.rglob('*') if path.is_file())
  return {f.relative_to(folder).as_posix(): f.stat().st_size for f in files}


def keep_listing(repository: Repository, commit: str, sizes: Sizes) -> None:
  """Writes the listing of a commit; a cache that cannot be written goes without."""
  with contextlib.suppress(OSError):
    write_json(_listing(repository, commit), {'files': dict(sizes)})


def keep_commit(repository: Repository, commit: str) -> None:
  """Writes down which commit a revision is now."""
  if repository.is_pinned:
    return
  ref = folder_of(repository) / 'refs' / repository.asked
  with contextlib.suppress(OSError):
    if not ref.is_file() or ref.read_text().strip() != commit:
      write_atomically(ref, lambda file: file.write(commit))


def _listing(repository: Repository, commit: str) -> pathlib.Path:
  return folder_of(repository) / 'adapad_jax' / f'{commit}.json'
