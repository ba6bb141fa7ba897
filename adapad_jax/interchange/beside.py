"""The tokenizer and the chat template of a model, which go where it goes."""

import pathlib
import shutil

from adapad_jax.models.sources import BESIDE


def copy_beside(source: pathlib.Path, folder: pathlib.Path) -> None:
  """Copies them from a model's folder."""
  for pattern in BESIDE:
    for path in source.glob(pattern):
      if path.is_file():
        shutil.copyfile(path, folder / path.name)
