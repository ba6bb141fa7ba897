"""Trains a LoRA of rank 16 with peft, in torch: what the re-ranking starts from.

python -m experiments.export.lora --task=mrpc --data=FOLDER --adapter=LORA
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from adapad_jax.models import load_tokenizer, sources
from adapad_jax.tasks import DataConfig, Split, Task, load_task
from configs.common import MINILM
from experiments.harness import Experiment, Run, main, no_key
from experiments.results import Row, row

# Every linear layer of an encoder without its pooler, or of a decoder.
TARGETS = r'.*layers?\.\d+\..*(query|key|value|dense|_proj)'
_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Options:
  """What is trained.

  Attributes:
    model: as model.source.
    task, data: of GLUE, and the folder of its official files.
    adapter: folder to save to.
    rows: to train on; 0: all.
    rank, epochs, rate, seed: of the training.
  """

  model: str = MINILM
  task: str = 'mrpc'
  data: str = ''
  adapter: str = ''
  rows: int = 0
  rank: int = 16
  epochs: int = 4
  rate: float = 1e-3
  seed: int = 0


def task_of(options: Options) -> Task:
  """The task with the model's tokenizer."""
  config = DataConfig(
    task=options.task,
    path=options.data,
    max_length=128,
    max_train_rows=options.rows,
  )
  return load_task(config, load_tokenizer(options.model))


def make_model(options: Options, task: Task) -> Any:
  """The model with a fresh LoRA and head."""
  import peft
  import torch
  from transformers import AutoModelForSequenceClassification

  torch.manual_seed(options.seed)
  model = AutoModelForSequenceClassification.from_pretrained(
    str(sources.resolve(options.model)), num_labels=len(task.label_names or ['value'])
  )
  config = peft.LoraConfig(
    task_type='SEQ_CLS',
    r=options.rank,
    lora_alpha=2 * options.rank,
    lora_dropout=0.05,
    target_modules=TARGETS,
  )
  return peft.get_peft_model(model, config)


def batches(split: Split, epochs: int, seed: int) -> list[np.ndarray]:
  """Rows of every batch; rows of like length go together, to save padding."""
  rng, found = np.random.default_rng(seed), []
  length_N = split.columns['mask_BL'][:].sum(1)
  for _ in range(epochs):
    order = rng.permutation(len(split))
    pools = [order[i : i + 32 * _BATCH] for i in range(0, len(order), 32 * _BATCH)]
    sorted_rows = [pool[np.argsort(length_N[pool], kind='stable')] for pool in pools]
    epoch = [
      rows[i : i + _BATCH]
      for rows in sorted_rows
      for i in range(0, len(rows) - _BATCH + 1, _BATCH)
    ]
    found += [epoch[i] for i in rng.permutation(len(epoch))]
  return found


def loss_of(model: Any, split: Split, rows: np.ndarray) -> Any:
  """The model's own loss of some rows."""
  import torch

  from experiments.export.torch_model import tensors_of

  label = torch.tensor(split.columns['label_B'][rows])
  label = label if label.is_floating_point() else label.long()
  return model(**tensors_of(split, rows), labels=label).loss


def train(model: Any, task: Task, options: Options) -> None:
  """AdamW with linear warm-up and decay, as PEFT's own examples train."""
  import torch

  split = task.splits['train']
  plan = batches(split, options.epochs, options.seed)
  trained = [p for p in model.parameters() if p.requires_grad]
  optimizer = torch.optim.AdamW(trained, lr=options.rate, weight_decay=0.01)
  warm = max(len(plan) // 16, 1)
  schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda t: min((t + 1) / warm, (len(plan) - t) / (len(plan) - warm))
  )
  model.train()
  for rows in plan:
    loss_of(model, split, rows).backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()


def measure(run: Run, options: Options) -> Iterator[Row]:
  """Trains and saves; the metrics on the validation split."""
  from experiments.export.torch_model import logits_of

  task = task_of(options)
  model = make_model(options, task)
  train(model, task, options)
  model.save_pretrained(options.adapter)
  split = task.splits['validation']
  logits = logits_of(model, split)
  name = 'logits_BC' if task.label_names else 'value_B'
  outputs = {name: logits if task.label_names else logits[:, 0]}
  details = {'model': options.model, 'task': options.task, 'rank': options.rank}
  for name, value in task.evaluate(split, outputs).items():
    yield row(f'{name} in torch', value, '', **details)


EXPERIMENT = Experiment(
  'export.lora', Options(), measure, key=no_key, needs=('data', 'adapter')
)

if __name__ == '__main__':
  main(EXPERIMENT)
