"""`--mode=push`: a trained run becomes a repository on the hub."""

import json
import pathlib
import tempfile

from adapad_jax import hub
from adapad_jax.commands import Request
from adapad_jax.models import sources
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.cutting import check_cut
from adapad_jax.training.exports import Destination, export
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Exports as `--mode=export` does, tokenizer included, and uploads to --repo.

  A new repository is private unless --public is given. With --out the export is kept.

  Raises:
    ValueError: as for export, without a token, or if the repository may not be written.
  """
  options, workdir = request.options, request.run_folder()
  if not hub.is_id(options['repo'], owner=True):
    raise ValueError(
      f'push needs --repo=OWNER/NAME, the repository to write; got {options["repo"]!r}'
    )
  repository = hub.parse(options['repo'], 'model')
  if repository.revision:
    raise ValueError(f'--repo={options["repo"]}: a push goes to the main branch')
  check_cut(options['max_rank'], options['budget'])
  _require_public_base(workdir, options['base_name'])
  with tempfile.TemporaryDirectory(prefix='adapad_jax-') as scratch:
    out = options['out'] or str(pathlib.Path(scratch, 'export'))
    Destination(out, options['format'], options['base_name'])
    user = hub.check_token(repository)  # Before the work of an export.
    found = export(
      workdir,
      out,
      format=options['format'],
      max_rank=options['max_rank'],
      budget=options['budget'],
      base_name=options['base_name'],
      checkpoint=options['checkpoint'],
      tokenizer=True,
    )
    say(f'uploading to {repository.name} as {user} ...')
    url = hub.push(
      out,
      repository,
      private=not options['public'],
      message=f'Upload {options["format"]} export of {workdir.name}',
    )
  say(json.dumps(found | {'out': options['out'] or None, 'url': url}))


def _require_public_base(workdir: pathlib.Path, base_name: str) -> None:
  """Refuses a base that nobody else could find: the hub wants its id on the card."""
  # Folders are absolute paths there, so a bare name is of the hub, such as gpt2.
  source = base_name or read_workdir(workdir).model.source
  if not hub.is_id(source) or (base_name and sources.is_folder(base_name)):
    raise ValueError(
      f'the base of this run is {source}, which is here alone; --base_name=OWNER/NAME'
      ' says what it is on the hub'
    )
