"""A folder becomes a repository of the hub."""

import os
import pathlib

import huggingface_hub

from adapad_jax.hub import faults
from adapad_jax.hub.faults import HubError
from adapad_jax.hub.repository import Repository


def check_token(repository: Repository) -> str:
  """Whom the token at hand belongs to; asked before work that is to be pushed.

  Raises:
    HubError: without a token, or with one that is not valid.
  """
  if not huggingface_hub.get_token():
    raise HubError(
      repository, 'writing needs a token: run `hf auth login`, or set HF_TOKEN'
    )
  return faults.call(huggingface_hub.HfApi().whoami, repository)['name']


def push(
  folder: str | os.PathLike[str],
  repository: Repository,
  *,
  private: bool = True,
  message: str = 'Upload adapter',
) -> str:
  """Makes a repository, or a new commit in the one that is there, of a folder.

  Args:
    folder: all of its files are uploaded; others in the repository stay.
    repository: OWNER/NAME.
    private: whether a new one is hidden; what is there stays as open as it is.
    message: of the commit.

  Returns:
    The address of the repository.

  Raises:
    HubError: if it may not be written, or the hub cannot be reached.
  """
  api, name = huggingface_hub.HfApi(), repository.name
  create = lambda: api.create_repo(name, private=private, exist_ok=True)
  upload = lambda: api.upload_folder(
    repo_id=name, folder_path=pathlib.Path(folder), commit_message=message
  )
  faults.call(create, repository)
  faults.call(upload, repository)
  return repository.url
