"""Adapters and merged models on disk, in the layouts that other libraries read.

Axis letters: R components of a module, I and O its input and output features.
"""

from adapad_jax.interchange.found import FoundAdapter, find_adapter
from adapad_jax.interchange.gguf_writer import require_gguf, write_gguf
from adapad_jax.interchange.labels import names_of_config, require_same_labels
from adapad_jax.interchange.merged_writer import write_merged
from adapad_jax.interchange.peft_reader import describe, read_peft
from adapad_jax.interchange.peft_writer import write_peft
from adapad_jax.interchange.release import Release
from adapad_jax.interchange.staging import require_free
from adapad_jax.interchange.verify import Report

__all__ = [
  'FoundAdapter',
  'Release',
  'Report',
  'describe',
  'find_adapter',
  'names_of_config',
  'read_peft',
  'require_free',
  'require_gguf',
  'require_same_labels',
  'write_gguf',
  'write_merged',
  'write_peft',
]
