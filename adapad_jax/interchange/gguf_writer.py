"""Writes an adapter as one file that llama.cpp loads with --lora.

A tensor is called after the one that it is added to, `blk.0.attn_q.weight.lora_a`,
(R, I), or `.lora_b`, (O, R); the update is alpha / R * lora_b lora_a, with R of each
tensor and one alpha for all (struct llama_adapter_lora_weight in llama.cpp's
src/llama-adapter.h). With alpha 1 and R in lora_b every module keeps its own rank.

Rotary positions of architecture 'llama' turn neighbouring features of a head, (2i, 2i +
1), where checkpoints of Hugging Face turn (i, i + H / 2). The conversion of a model
reorders the rows of q_proj and k_proj, and lora_b follows. 'qwen3' turns as Hugging
Face does.
"""

import importlib.util
import pathlib
import re

import numpy as np

from adapad_jax.interchange.card import write_card
from adapad_jax.interchange.notes import write_notes
from adapad_jax.interchange.peft_format import layout
from adapad_jax.interchange.release import Release
from adapad_jax.interchange.staging import new_folder
from adapad_jax.interchange.verify import Report, delta_error, logit_gap
from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.models import Pretrained
from adapad_jax.tasks.task import Batch

FILE = 'adapter.gguf'
# Family -> llama.cpp's name of it, and whether q_proj and k_proj are reordered.
_ARCHITECTURES = {'llama': ('llama', True), 'qwen3': ('qwen3', False)}
_NAMES = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
}
# A product and a quotient by the rank round once each.
_DELTA_TOLERANCE, _LOGIT_TOLERANCE = 1e-6, 1e-5


def require_gguf(base: Pretrained | None = None) -> None:
  """Checks that the format can be written, and for a base model.

  Raises:
    ValueError: if the package is missing, or llama.cpp's layout of the model is not
      known here.
  """
  if importlib.util.find_spec('gguf') is None:
    raise ValueError(
      "--format=gguf needs the package gguf: pip install 'adapad-jax[llamacpp]'"
    )
  if base is None:
    return
  if base.family not in _ARCHITECTURES:
    raise ValueError(
      f'--format=gguf knows the layout of {sorted(_ARCHITECTURES)}, the base is of'
      f' family {base.family!r}; llama.cpp converts it from --format=peft-uniform'
    )
  if base.head.kind != 'lm':
    raise ValueError(
      f'--format=gguf holds adapters of language models, the base has a head of kind'
      f' {base.head.kind!r}; export it with --format=merged'
    )


def write_gguf(release: Release, out: str | pathlib.Path, batch: Batch) -> Report:
  """Writes `adapter.gguf`, reads it back, and keeps the folder only if both agree.

  Args:
    release: what to write.
    out: a folder that does not exist yet.
    batch: real inputs on which the adapter as read back has to give equal logits.

  Raises:
    ValueError: if there is nothing to write, the family or a module has no known
      place, `out` exists or cannot be written, or what is on disk differs.
  """
  require_gguf(release.base)
  updates = layout(release.adapter, uniform=False)
  with new_folder(out) as folder:
    _write(release.base, updates, folder / FILE)
    write_notes(release, folder)
    write_card(release, folder, 'gguf')
    found = read_gguf(folder / FILE, release.base)
    delta = delta_error(release.adapter, found)
    gap = logit_gap(release.base, release.adapter, found, batch)
    report = Report(pathlib.Path(out), delta, gap, release.adapter.parameters())
    report.check(_DELTA_TOLERANCE, _LOGIT_TOLERANCE)
  return report


def _write(base: Pretrained, updates: dict[str, LowRank], path: pathlib.Path) -> None:
  import gguf

  writer = gguf.GGUFWriter(path, _ARCHITECTURES[base.family][0])
  writer.add_type(gguf.GGUFType.ADAPTER)
  writer.add_string(gguf.Keys.Adapter.TYPE, 'lora')
  writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 1.0)
  for name, update in updates.items():
    tensor = _name(name)
    order_O = _order(base, name, update.b_RO.shape[1])
    b_OR = update.b_RO.T[order_O] * np.float32(update.rank)
    for part, value in (('lora_a', update.a_RI), ('lora_b', b_OR)):
      kept = np.ascontiguousarray(value, np.float32)
      writer.add_tensor(f'{tensor}.{part}', kept)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()


def read_gguf(path: pathlib.Path, base: Pretrained) -> Adapter:
  """An adapter that `write_gguf` wrote, for the base that it was written for."""
  import gguf

  reader = gguf.GGUFReader(path)
  alpha = float(reader.fields[gguf.Keys.Adapter.LORA_ALPHA].contents())
  # Copies, since the file goes where its folder goes.
  tensors = {one.name: np.array(one.data) for one in reader.tensors}
  number = r'blk\.(\d+)\.(\w+)\.weight\.lora_a'
  modules = {}
  kinds = {ours: name for name, ours in _NAMES.items()}
  for tensor, a_RI in tensors.items():
    if not (place := re.fullmatch(number, tensor)):
      continue
    name = f'model.layers.{place[1]}.{kinds[place[2]]}'
    b_OR = tensors[tensor.removesuffix('a') + 'b']
    back_O = np.argsort(_order(base, name, len(b_OR)))
    b_RO = (b_OR[back_O] * np.float32(alpha / len(a_RI))).T
    modules[name] = LowRank(a_RI, np.ascontiguousarray(b_RO))
  return Adapter(modules, {})


def _name(module: str) -> str:
  """'blk.3.attn_q.weight' for 'model.layers.3.self_attn.q_proj'.

  Raises:
    ValueError: for a module that has no place there.
  """
  found = re.fullmatch(r'model\.layers\.(\d+)\.(.+)', module)
  if not found or found[2] not in _NAMES:
    raise ValueError(
      f'--format=gguf has no place for an update of {module}; it has for {[*_NAMES]} of'
      ' every layer'
    )
  return f'blk.{found[1]}.{_NAMES[found[2]]}.weight'


def _order(base: Pretrained, module: str, outputs: int) -> np.ndarray:
  """Which output feature of ours stands at each place there, (O,)."""
  kind = module.rpartition('.')[2]
  order_O = np.arange(outputs)
  if kind not in ('q_proj', 'k_proj') or not _ARCHITECTURES[base.family][1]:
    return order_O
  # (heads, halves, H / 2) -> (heads, H / 2, halves)
  halves = order_O.reshape(-1, 2, base.config.head_dim // 2)
  return halves.swapaxes(1, 2).reshape(-1)
