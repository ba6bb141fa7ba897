"""`--mode=info`: what a bug report should say."""

import json
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

import huggingface_hub.constants
import jax
from flax import nnx

from adapad_jax.commands import Request
from adapad_jax.models import Head, Source, max_length, outline
from adapad_jax.settings import build
from adapad_jax.sharding import make_mesh
from adapad_jax.training.claim import read_workdir
from adapad_jax.training.commits import LATEST, Commits, at_commits, begun_with
from adapad_jax.training.config import FinetuneConfig, finetune_config
from adapad_jax.training.plan import (
  choose_mesh,
  devices_of_model,
  find_model,
  nbytes,
  on_devices_at_hand,
)
from adapad_jax.training.terminal import say
from adapad_jax.workdir import config_of, is_regression, versions

if TYPE_CHECKING:
  from adapad_jax.regression.config import RegressionConfig


def run(request: Request) -> None:
  """Prints one JSON object; with --config or a run's --workdir also mesh and model.

  Raises:
    ValueError: for a config that cannot work.
  """
  found = {
    'platform': platform.platform(),
    'executable': sys.executable,
    'versions': versions(),
    'devices': [f'{d.id}: {d.platform} {d.device_kind}' for d in jax.devices()],
    'processes': jax.process_count(),
    'cpu_cores': os.cpu_count(),
    'caches': caches(),
    'environment': {
      name: value
      for name, value in sorted(os.environ.items())
      if name.startswith(('JAX_', 'XLA_')) or name == 'HF_HUB_OFFLINE'
    },
  }
  if (config := _config(request)) is not None:
    found |= _of_config(config, _commits(request))
  say(json.dumps(found, indent=2))


def mesh_of(config: FinetuneConfig, source: Source) -> jax.sharding.Mesh:
  """The mesh of a run, but for what its data and method, not read here, ask for."""
  model, rows = config.model, config.train.batch // config.train.accumulate
  # Which head it is makes no difference to how many devices hold the backbone.
  head = Head('classification')
  outlined = outline(source, head, dtype=model.dtype, weights=model.weights)
  weights = nbytes(nnx.state(outlined.model))
  return choose_mesh(config.mesh, rows, devices_of_model(config.mesh, rows, weights))


def caches() -> dict[str, Any]:
  """Where models are kept and whether compiled programs are."""
  return {
    'hub': huggingface_hub.constants.HF_HUB_CACHE,
    'compilation': jax.config.jax_compilation_cache_dir,
  }


def _config(request: Request) -> 'FinetuneConfig | RegressionConfig | None':
  """Of --config, else of the run in --workdir, else none."""
  values = request.config
  workdir = request.workdir and request.run_folder()
  if values is None and workdir is not None:
    if not is_regression(workdir):
      return on_devices_at_hand(read_workdir(workdir))
    values = config_of(workdir)
  if values is None:
    return None
  if values.get('program') == 'regression':
    # Only such a config needs that package and scipy.
    from adapad_jax.regression.config import RegressionConfig

    return build(RegressionConfig, values)
  return finetune_config(values)


def _commits(request: Request) -> Commits:
  """Those of the run that is asked about; a regression has none."""
  workdir = request.workdir
  if request.config is not None or workdir is None or is_regression(workdir):
    return LATEST
  return begun_with(workdir)


def _of_config(
  config: 'FinetuneConfig | RegressionConfig', commits: Commits
) -> dict[str, Any]:
  if not isinstance(config, FinetuneConfig):
    return {'mesh': dict(make_mesh(config.devices).shape)}
  source = find_model(at_commits(config, commits))
  commits = Commits(commits.model or source.commit, commits.data)
  return {
    **({'commits': found} if (found := commits.as_dict()) else {}),
    'mesh': dict(mesh_of(config, source).shape),
    'model': {
      'source': config.model.source,
      'folder': str(source.folder),
      'max_length': max_length(source),
    },
  }
