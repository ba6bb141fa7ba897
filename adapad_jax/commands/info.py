"""`--mode=info`: what a bug report should say."""

import json
import os
import platform
import sys
from typing import Any

import huggingface_hub.constants
import jax

from adapad_jax.commands import Request
from adapad_jax.models import max_length, sources
from adapad_jax.training.config import finetune_config
from adapad_jax.training.plan import choose_mesh
from adapad_jax.training.result import versions
from adapad_jax.training.terminal import say


def run(request: Request) -> None:
  """Prints one JSON object; with --config also the mesh and model that it means.

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
  if request.config is not None:
    found |= _of_config(request.config)
  say(json.dumps(found, indent=2))


def caches() -> dict[str, Any]:
  """Where models are kept and whether compiled programs are."""
  return {
    'hub': huggingface_hub.constants.HF_HUB_CACHE,
    'compilation': jax.config.jax_compilation_cache_dir,
  }


def _of_config(values: Any) -> dict[str, Any]:
  config = finetune_config(values)
  mesh = choose_mesh(config.mesh, config.train.batch)
  source = config.model.source
  return {
    'mesh': dict(mesh.shape),
    'model': {
      'source': source,
      'folder': str(sources.resolve(source, weights=False)),
      'max_length': max_length(source),
    },
  }
