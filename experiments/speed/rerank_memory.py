"""Memory and seconds of re-ranking a whole fine-tuned model of a billion parameters.

  python -m experiments.speed.rerank_memory --model=MODEL --data=FOLDER
  python -m experiments.speed.rerank_memory --table

The program is started as a user does (`--mode=rerank --tuned`), on a Llama of 1.07
billion parameters and a copy with an update of rank 24 in every matrix. Weights are
drawn, since neither memory nor time depend on them; MODEL, which
`experiments.export.smollm2` has written, lends its tokenizer, and the text are rows of
FOLDER's gsm8k-train.jsonl. Both checkpoints take 8.6 GB on disk while it runs.
"""

import dataclasses
import itertools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from experiments import timing
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, row
from experiments.speed import start
from experiments.tables import markdown

# That of TinyLlama-1.1B, but for the vocabulary, which is the tokenizer's.
SIZES = {
  'hidden_size': 2048,
  'intermediate_size': 5632,
  'num_hidden_layers': 22,
  'num_attention_heads': 32,
  'num_key_value_heads': 4,
  'head_dim': 64,
}
_RANK = 24


@dataclasses.dataclass(frozen=True)
class Options:
  """What is re-ranked.

  Attributes:
    model: folder of the tokenizer.
    data: folder of the rows.
    orders: of components, see `--order`.
    rows: of text.
    layers: of the model; 0: as many as a billion parameters take.
  """

  model: str = ''
  data: str = ''
  orders: tuple[Literal['outputs', 'svd'], ...] = ('outputs', 'svd')
  rows: int = 16
  layers: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
  """One call of the program."""

  order: str
  rows: int
  layers: int


def cases(run: Run) -> Iterator[Case]:
  """Order by order."""
  o = run.options
  for order in o.orders:
    yield Case(order, o.rows, o.layers or SIZES['num_hidden_layers'])


def key(run: Run, case: Case) -> dict[str, Any]:
  """An order is measured once on a kind of processor."""
  return key_of_fields(run, case) | {'processor': timing.processor()}


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Writes both checkpoints, starts the program, and tells what it took."""
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    source = pathlib.Path(run.options.model)
    parameters = write(source, folder / 'base', case.layers, tuned=False)
    write(source, folder / 'tuned', case.layers, tuned=True)
    data = pathlib.Path(run.options.data) / 'gsm8k-train.jsonl'
    with data.open() as lines:
      for name in ('train', 'validation'):
        text = ''.join(itertools.islice(lines, case.rows))
        (folder / f'{name}.jsonl').write_text(text)
    taken = start.started(arguments(folder, case))
  about = dataclasses.asdict(case) | {'parameters': parameters}
  about |= {'peak_gib': round(taken.peak, 2), 'cpu_seconds': round(taken.cpu, 1)}
  processor = timing.processor()
  yield row('re-ranking', round(taken.seconds, 1), 's', **about, processor=processor)


def arguments(folder: pathlib.Path, case: Case) -> list[str]:
  """Of the program, as for the difference of two models of the folder."""
  return [
    '--mode=rerank',
    '--config=configs/sft.py:smollm2',
    f'--config.model.source={folder}/base',
    f'--config.data.train={folder}/train.jsonl',
    f'--config.data.validation={folder}/validation.jsonl',
    '--config.train.eval_batch=4',
    f'--tuned={folder}/tuned',
    f'--order={case.order}',
    '--max_rank=8',
    f'--out={folder}/small',
  ]


def write(
  tokenizer: pathlib.Path, folder: pathlib.Path, layers: int, *, tuned: bool
) -> int:
  """Writes a checkpoint of drawn weights, a file a tensor, and says how many there are.

  This process holds one tensor at a time: memory is to be that of the program.
  """
  from safetensors.numpy import save_file

  folder.mkdir()
  for path in tokenizer.iterdir():
    if path.suffix != '.safetensors':
      shutil.copy(path, folder / path.name)
  config = json.loads((tokenizer / 'config.json').read_text())
  config |= SIZES | {'num_hidden_layers': layers}
  (folder / 'config.json').write_text(json.dumps(config))
  base, update = np.random.default_rng(0), np.random.default_rng(1)
  files, parameters = {}, 0
  for number, (name, shape) in enumerate(tensors(layers, config['vocab_size'])):
    x = np.ones(shape, np.float32)
    if len(shape) > 1:
      x *= np.float32(0.02) * base.standard_normal(shape, np.float32)
    if tuned and len(shape) > 1 and 'embed' not in name:
      x += drawn_update(update, *shape)
    files[name] = f'model-{number:05}.safetensors'
    save_file({name: x}, folder / files[name], metadata={'format': 'pt'})
    parameters += x.size
  index = {'metadata': {'total_size': 4 * parameters}, 'weight_map': files}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  return parameters


def drawn_update(rng: np.random.Generator, outputs: int, inputs: int) -> np.ndarray:
  """An update (O, I) whose singular values fall off."""
  size_R = np.float32(2e-4 * 0.8 ** np.arange(_RANK))
  left_OR = rng.standard_normal((outputs, _RANK), np.float32)
  return (left_OR * size_R) @ rng.standard_normal((_RANK, inputs), np.float32)


def tensors(layers: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
  """Names and shapes (out, in) of a Llama with tied embeddings."""
  wide, middle = SIZES['hidden_size'], SIZES['intermediate_size']
  narrow = SIZES['head_dim'] * SIZES['num_key_value_heads']
  yield 'model.embed_tokens.weight', (vocabulary, wide)
  shapes = {
    'self_attn.q_proj': (wide, wide),
    'self_attn.k_proj': (narrow, wide),
    'self_attn.v_proj': (narrow, wide),
    'self_attn.o_proj': (wide, wide),
    'mlp.gate_proj': (middle, wide),
    'mlp.up_proj': (middle, wide),
    'mlp.down_proj': (wide, middle),
    'input_layernorm': (wide,),
    'post_attention_layernorm': (wide,),
  }
  for layer in range(layers):
    for name, shape in shapes.items():
      yield f'model.layers.{layer}.{name}.weight', shape
  yield 'model.norm.weight', (wide,)


def table(run: Run) -> str:
  """A line for each call."""
  lines = [
    [
      one['order'],
      f'{one["parameters"] / 1e9:.2f}',
      str(one['rows']),
      f'{one["value"]:.0f}',
      f'{one["cpu_seconds"]:.0f}',
      f'{one["peak_gib"]:.1f}',
      one['processor'],
    ]
    for one in run.results.rows()
  ]
  head = ['order', 'billion parameters', 'rows of text', 's', 'processor time, s']
  return markdown([*head, 'peak, GiB', 'processor'], lines)


EXPERIMENT = Experiment(
  'speed.rerank_memory',
  Options(),
  measure,
  cases,
  key,
  table,
  needs=('model', 'data'),
)

if __name__ == '__main__':
  main(EXPERIMENT)
