"""The tokenizer and the chat template of a model, which go where it goes."""

import pathlib
import shutil

from adapad_jax.files import read_json, write_atomically, write_json
from adapad_jax.interchange.release import Release
from adapad_jax.models.sources import BESIDE

TEMPLATE, GENERATION = 'chat_template.jinja', 'generation_config.json'


def copy_beside(release: Release, folder: pathlib.Path) -> None:
  """Writes those of the base; the template and the stop tokens of the training first.

  transformers and vLLM take a template from its own file before any other, and end an
  answer at the tokens that generation_config.json lists.
  """
  for pattern in BESIDE:
    for path in release.base.source_dir.glob(pattern):
      if path.is_file():
        shutil.copyfile(path, folder / path.name)
  if release.chat_template:
    text = release.chat_template
    write_atomically(folder / TEMPLATE, lambda file: file.write(text))
  if release.stop_ids:
    path = folder / GENERATION
    settings = read_json(path, dict) if path.is_file() else {}
    write_json(path, settings | {'eos_token_id': list(release.stop_ids)})
