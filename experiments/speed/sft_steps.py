"""A step of instruction tuning beside PEFT's and TRL's, on the same rows of GSM8K.

  python -m experiments.export.smollm2 --out=MODEL
  python -m experiments.speed.sft_steps --model=MODEL --data=FOLDER

SmolLM2-135M with LoRA of rank 2 in torch, by PEFT and the model's own loss or by TRL's
SFTTrainer, and ours with LoRA of rank 2 or AdaPaD's `split` rounds with four components
of every module, on all linear layers. Either side gets the same padded batch and
learns the same tokens, in the same dtype. Times alternate in one process; the figure is
the median ratio of neighbouring steps. Peaks are of processes that run one side alone.
"""

import dataclasses
import itertools
import pathlib
import tempfile
import types
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from adapad_jax import freed_memory
from adapad_jax.compilation import keep_compiled
from adapad_jax.sharding import put
from adapad_jax.training import finetune_config
from adapad_jax.training.batches import trimmed
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.session import open_session
from configs.sft import get_config
from experiments import processes, timing
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, row
from experiments.speed.training_steps import OurStep, grown
from experiments.tables import markdown

_RANK = 2
_MODULES = 'q_proj k_proj v_proj o_proj gate_proj up_proj down_proj'.split()
OURS, THEIRS = ('lora', 'adapad'), ('peft', 'trl')
TIME, PEAK = 'step of instruction tuning, by turns', 'peak of instruction tuning'


@dataclasses.dataclass(frozen=True)
class Options:
  """What is timed.

  Attributes:
    model: folder that `experiments.export.smollm2` has written.
    data: folder with gsm8k-train.jsonl.
    rows, length: of the batch; longer rows are cut.
    dtypes: of the frozen weights.
    repeats: turns of either side.
  """

  model: str = ''
  data: str = ''
  rows: int = 8
  length: int = 160
  dtypes: tuple[str, ...] = ('float32', 'bfloat16')
  repeats: int = 7


@dataclasses.dataclass(frozen=True)
class Case:
  """A step beside another; without one, its peak alone is measured."""

  side: str
  beside: str
  dtype: str
  rows: int
  length: int


def cases(run: Run) -> Iterator[Case]:
  """Peaks of every side, and the pairs."""
  options = run.options
  for dtype in options.dtypes:
    size = dtype, options.rows, options.length
    for side, beside in itertools.product(OURS, THEIRS):
      yield Case(side, beside, *size)
    for side in (*THEIRS, *OURS):
      yield Case(side, '', *size)


def key(run: Run, case: Case) -> dict[str, Any]:
  """A case is measured once on a kind of processor."""
  return key_of_fields(run, case) | {'processor': timing.processor()}


def measure(run: Run, case: Case) -> Iterator[Row]:
  """A ratio, or a peak."""
  work = by_turns if case.beside else peak
  name, unit = (TIME, '') if case.beside else (PEAK, 'GiB')
  found = processes.call(work, run.options, case)
  about = dataclasses.asdict(case) | {'processor': timing.processor()}
  yield row(name, found.pop('value'), unit, **about, **found)


def by_turns(options: Options, case: Case) -> dict[str, Any]:
  """The ratio of neighbouring steps."""
  keep_compiled()
  ours, theirs = (made(options, side, case) for side in (case.side, case.beside))
  losses = [ours(), theirs()]
  found = timing.side_by_side(ours, theirs, options.repeats)
  return {
    'value': found['ratio'],
    'least': found['least'],
    'most': found['most'],
    'ms': 1e3 * found['ours'],
    'their_ms': 1e3 * found['theirs'],
    'repeats': options.repeats,
    'first_losses': losses,
  }


def peak(options: Options, case: Case) -> dict[str, Any]:
  """Most bytes of this process, which trains for a few steps."""
  keep_compiled()
  step = made(options, case.side, case)
  for _ in range(3):
    step()
    freed_memory.give_back()
  return {'value': timing.peak_bytes() / 2**30}


def made(options: Options, side: str, case: Case) -> Any:
  """The step of a side; a call takes it and gives the loss."""
  with tempfile.TemporaryDirectory() as folder:
    rows = _cut_file(options, pathlib.Path(folder))
    plan = plan_of(options, side if side in OURS else 'lora', case, rows)
  if side in OURS:
    return our_step(plan)
  batch = {name: x[0] for name, x in first_batch(plan).items()}
  return their_step(options.model, side, case.dtype, batch)


def _cut_file(options: Options, folder: pathlib.Path) -> pathlib.Path:
  """The first rows of GSM8K: what follows is not needed for one batch."""
  lines = (pathlib.Path(options.data) / 'gsm8k-train.jsonl').read_text('utf-8')
  file = folder / 'rows.jsonl'
  file.write_text('\n'.join(lines.splitlines()[: 8 * options.rows]), 'utf-8')
  return file


def plan_of(options: Options, method: str, case: Case, rows: pathlib.Path) -> Plan:
  """What configs/sft.py plans for SmolLM2, on these rows."""
  config = get_config('smollm2').to_dict()
  config['method'] = method
  config['lora'] |= {'rank': _RANK}
  config['model'] |= {'source': options.model, 'dtype': case.dtype, 'scan': False}
  config['data'] |= {'train': str(rows), 'holdout': 0.1, 'max_length': case.length}
  config['train'] |= {'batch': case.rows, 'steps': 50}
  return make_plan(finetune_config(config))


def first_batch(plan: Plan) -> dict[str, np.ndarray]:
  """The first rows of the file, (1, B, L), as the method wants them."""
  columns = trimmed(plan.task.splits['train'].columns)
  order_B = plan.method.rows(plan.mesh).order_B
  return {name: column[order_B][None] for name, column in columns.items()}


def our_step(plan: Plan) -> OurStep:
  """A round of the plan's method, in which every module has its most components."""
  with jax.set_mesh(plan.mesh):
    session = open_session(plan)
    method = plan.method
    state = method.init(session.head)
    if plan.config.method == 'adapad':
      state = grown(state, method.capacity)
    state = method.place(state, plan.mesh)
    batch = put(first_batch(plan), method.rows(plan.mesh).spec)
  return OurStep(session.round, state, session.params, batch, plan.mesh)


def their_step(model: str, side: str, dtype: str, batch: dict[str, Any]) -> Any:
  """LoRA by PEFT, with the model's own loss or by TRL's trainer."""
  import peft
  import torch
  import transformers

  from experiments.speed.torch_steps import TorchStep

  torch.set_num_threads(2)
  base = transformers.AutoModelForCausalLM.from_pretrained(
    model, dtype=getattr(torch, dtype)
  )
  lora = peft.LoraConfig(r=_RANK, target_modules=_MODULES, task_type='CAUSAL_LM')
  adapted = peft.get_peft_model(base, lora)
  adapted.train()
  learner = torch.optim.AdamW(
    [p for p in adapted.parameters() if p.requires_grad], lr=1e-4
  )
  labels = np.where(batch['learned_BL'] > 0, batch['ids_BL'], -100)
  named = {'input_ids': batch['ids_BL'], 'attention_mask': batch['mask_BL']}
  inputs = {
    name: torch.tensor(x).long() for name, x in (named | {'labels': labels}).items()
  }
  if side == 'peft':
    return TorchStep(adapted, learner, inputs)
  trainer = trainer_of(adapted, model)
  by_trl = lambda **given: types.SimpleNamespace(
    loss=trainer.compute_loss(adapted, given)
  )
  return TorchStep(by_trl, learner, inputs)


def trainer_of(adapted: Any, model: str) -> Any:
  """TRL's trainer in the model's own dtype, activations kept."""
  import datasets
  import transformers
  import trl

  arguments = trl.SFTConfig(
    output_dir=tempfile.mkdtemp(),
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    report_to='none',
  )
  rows = datasets.Dataset.from_dict({'input_ids': [[1, 2]], 'labels': [[1, 2]]})
  return trl.SFTTrainer(
    adapted,
    arguments,
    train_dataset=rows,
    processing_class=transformers.AutoTokenizer.from_pretrained(model),
  )


def table(run: Run) -> str:
  """A line for each pair, and for each peak."""
  order = (*OURS, *THEIRS, '')
  place = lambda one: (one['dtype'], *(order.index(one[n]) for n in ('side', 'beside')))
  rows = sorted(run.results.rows(), key=place)
  what = lambda one: [one['dtype'], f'{one["rows"]} x {one["length"]}']
  pairs = [
    [
      f'{one["side"]} beside {one["beside"]}',
      *what(one),
      f'{one["value"]:.2f} ({one["least"]:.2f} to {one["most"]:.2f})',
      f'{one["ms"]:,.0f}, {one["their_ms"]:,.0f}',
    ]
    for one in rows
    if one['figure'] == TIME
  ]
  peaks = [
    [one['side'], *what(one), f'{one["value"]:.2f}']
    for one in rows
    if one['figure'] == PEAK
  ]
  head = ['weights', 'tokens']
  return '\n\n'.join(
    [
      markdown(['step', *head, 'ratio', 'ms'], pairs),
      markdown(['side', *head, 'peak, GiB'], peaks),
    ]
  )


EXPERIMENT = Experiment(
  'speed.sft_steps',
  Options(),
  measure,
  cases,
  key,
  table,
  needs=('model', 'data'),
)

if __name__ == '__main__':
  main(EXPERIMENT)
