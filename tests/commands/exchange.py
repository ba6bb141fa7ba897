"""A tiny BERT whose weights lie on disk, and modes called in this process."""

import json

from adapad_jax.adapters import Adapter
from adapad_jax.commands import Request, registry
from adapad_jax.interchange import Release, write_merged
from adapad_jax.models import Head, load
from tests import tiny
from tests.interchange import kit

DEFAULTS = {
  'dry_run': False,
  'checkpoint': 'best',
  'split': '',
  'input': '',
  'output': '',
  'overwrite': False,
  'max_rank': 0,
  'budget': 0,
  'format': 'peft',
  'out': '',
  'base_name': '',
  'adapter': '',
  'tuned': '',
}
_PATHS = ('out', 'adapter', 'tuned', 'input')


def call(mode, capsys, workdir=None, config=None, **options):
  """Runs a mode in this process; gives the JSON object of its last line."""
  options = {name: str(x) if name in _PATHS else x for name, x in options.items()}
  registry.run(mode, Request(config, workdir, DEFAULTS | options))
  return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def values_in(folder):
  """The config of a run on a tiny task, and on a tiny BERT with weights."""
  tiny.make_data(folder)
  found = tiny.values(folder, model={'random_weights': False})
  base = load(found['model']['source'], Head('classification'), random_weights=True)
  nothing = Adapter({}, kit.draw_adapter(base).head)
  whole = folder / 'whole'
  write_merged(Release(nothing, base, 'tiny'), whole, kit.random_batch(14))
  found['model']['source'] = str(whole)
  return found
