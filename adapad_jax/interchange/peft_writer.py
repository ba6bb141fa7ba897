"""Writes an adapter as a folder that PEFT loads."""

import pathlib

from safetensors.numpy import save_file

from adapad_jax.files import write_json
from adapad_jax.interchange import peft_format
from adapad_jax.interchange.beside import copy_beside
from adapad_jax.interchange.card import write_card
from adapad_jax.interchange.notes import write_notes
from adapad_jax.interchange.peft_reader import read_peft
from adapad_jax.interchange.release import Release
from adapad_jax.interchange.staging import new_folder
from adapad_jax.interchange.verify import Report, delta_error, logit_gap
from adapad_jax.tasks.task import Batch

# Nothing is rounded on the way to disk and back.
_DELTA_TOLERANCE = 1e-6
_LOGIT_TOLERANCE = 1e-5


def write_peft(
  release: Release,
  out: str | pathlib.Path,
  batch: Batch,
  *,
  uniform: bool = False,
  tokenizer: bool = False,
) -> Report:
  """Writes the adapter, reads it back, and keeps the folder only if both agree.

  Args:
    release: what to write.
    out: a folder that does not exist yet.
    batch: real inputs on which the adapter as read back has to give equal logits.
    uniform: pad all modules with zeros to one rank, r = lora_alpha: larger, but the
      one layout that PEFT, vLLM, SGLang and llama.cpp scale alike.
    tokenizer: write that of the base beside it, and its chat template; one that was
      trained with a chat template gets both in any case.

  Raises:
    ValueError: if there is nothing to write, `out` exists or cannot be written, or
      what is on disk differs.
  """
  updates = peft_format.layout(release.adapter, uniform)
  with new_folder(out) as folder:
    config = peft_format.config_of(
      updates, release.base, release.base_name, release.revision
    )
    write_json(folder / peft_format.CONFIG, config)
    tensors = peft_format.tensors_of(updates, release.adapter.head)
    save_file(tensors, folder / peft_format.TENSORS, {'format': 'pt'})
    write_notes(release, folder)
    write_card(release, folder, 'peft-uniform' if uniform else 'peft')
    if tokenizer or release.chat_template:
      copy_beside(release, folder)
    found = read_peft(folder, release.base).adapter
    delta = delta_error(release.adapter, found)
    gap = logit_gap(release.base, release.adapter, found, batch)
    report = Report(pathlib.Path(out), delta, gap, release.adapter.parameters())
    report.check(_DELTA_TOLERANCE, _LOGIT_TOLERANCE)
  return report
