"""adapad.json: what PEFT's own file has no place for."""

import pathlib
from typing import Any

from adapad_jax.files import read_json, write_json
from adapad_jax.interchange.release import Release, digest

NOTES = 'adapad.json'
_FORMAT = 1


def write_notes(release: Release, folder: pathlib.Path) -> None:
  """Writes labels, ranks and metrics, and a fingerprint of the base."""
  head = release.base.head
  modules = list(release.adapter.modules)
  notes = {
    'format': _FORMAT,
    'task': release.task,
    'base_name': release.base_name,
    'base_digest': digest(release.base, modules),
    'head': head.kind,
    'id2label': {str(i): name for i, name in enumerate(release.labels)},
    'label2id': {name: i for i, name in enumerate(release.labels)},
    'label_names': release.label_names,
    'max_length': release.max_length,
    'metrics': dict(release.metrics),
    'parameters': release.adapter.parameters(),
    'ranks': release.adapter.ranks,
  }
  write_json(folder / NOTES, notes)


def read_notes(folder: pathlib.Path) -> dict[str, Any]:
  """Reads the notes of a folder; empty where somebody else wrote it.

  Raises:
    ValueError: if they are not JSON or of a later format.
  """
  path = folder / NOTES
  if not path.is_file():
    return {}
  notes = read_json(path)
  if not isinstance(notes, dict) or notes.get('format') != _FORMAT:
    raise ValueError(f'{path} is not of format {_FORMAT}; was it made by a later one?')
  return notes
