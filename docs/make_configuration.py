"""Writes docs/configuration.md from the dataclasses that read the config.

python -m docs.make_configuration
"""

import dataclasses
import inspect
import pathlib
import re

from adapad_jax.methods import METHODS
from adapad_jax.optim import Optimizer
from adapad_jax.ranges import LARGEST_INT
from adapad_jax.settings import describe, hints_of
from adapad_jax.tasks import DataConfig
from adapad_jax.training.config import (
  AdapterConfig,
  FinetuneConfig,
  MeshConfig,
  ModelConfig,
  OptimizerConfig,
  TrainConfig,
)

PATH = pathlib.Path(__file__).parent / 'configuration.md'

# Field -> what users of run_glue.py and PEFT call it.
ELSEWHERE = {
  'data.task': '`--task_name`',
  'data.path': '`--dataset_name`',
  'data.subset': '`--dataset_config_name`',
  'data.train': '`--train_file`',
  'data.validation': '`--validation_file`',
  'data.test': '`--test_file`',
  'data.max_length': '`--max_seq_length`',
  'data.max_train_rows': '`--max_train_samples`',
  'data.max_eval_rows': '`--max_eval_samples`',
  'model.source': '`--model_name_or_path`',
  'model.revision': '`--model_revision`',
  'model.dtype': '`--bf16`',
  'model.remat': '`--gradient_checkpointing`',
  'adapter.targets': '`target_modules`',
  'adapter.exclude': '`exclude_modules`',
  'adapter.layers': '`layers_to_transform`',
  'adapter.scale': '`lora_alpha / r`',
  'adapter.init': '`init_lora_weights`',
  'optimizer.rule': '`--optim`',
  'optimizer.learning_rate': '`--learning_rate`',
  'optimizer.warmup': '`--warmup_steps`, `--warmup_ratio`',
  'optimizer.decay': '`--lr_scheduler_type`',
  'optimizer.weight_decay': '`--weight_decay`',
  'optimizer.clip': '`--max_grad_norm`',
  'train.batch': '`--per_device_train_batch_size` x devices',
  'train.epochs': '`--num_train_epochs`',
  'train.steps': '`--max_steps`',
  'train.eval_batch': '`--per_device_eval_batch_size` x devices',
  'train.log_every': '`--logging_steps`',
  'train.checkpoint_every': '`--save_steps`',
  'train.patience': '`early_stopping_patience`',
  'train.wandb': '`--report_to wandb`',
  'adapad.r_max': '`r` of LoRA, at most',
}
GROUPS = {
  'data': (DataConfig,),
  'model': (ModelConfig,),
  'adapter': (AdapterConfig,),
  'optimizer': (OptimizerConfig, Optimizer),
  'head_optimizer': (OptimizerConfig, Optimizer),
  'train': (TrainConfig,),
  'mesh': (MeshConfig,),
}


def meanings(*kinds: type) -> dict[str, str]:
  """What the docstrings of dataclasses say of each field; the first one counts."""
  found: dict[str, str] = {}
  for kind in kinds:
    # Python 3.13 stores docstrings without their indentation, earlier ones with it.
    text = inspect.cleandoc(kind.__doc__ or '')
    text = text.partition('Attributes:')[2].partition('Raises:')[0]
    entries = re.findall(r'\n  (\w[\w, ]*): ((?:.|\n(?!  \w[\w, ]*: |\n))+)', text)
    for names, meaning in entries:
      for name in names.split(', '):
        found.setdefault(name, ' '.join(meaning.split()))
  return found


def rows(group: str, kinds: tuple[type, ...]) -> list[str]:
  """The rows of one group's table, nested groups after the field that holds them."""
  said = meanings(*kinds)
  lines = []
  for field in dataclasses.fields(kinds[0]):
    name = f'{group}.{field.name}'
    default = getattr(kinds[0](), field.name)
    elsewhere = ELSEWHERE.get(name, '')
    nested = dataclasses.is_dataclass(default)
    shown = '' if nested else f'`{default!r}`'
    takes = '' if nested else describe(hints_of(kinds[0])[field.name])
    meaning = said.get(field.name, '')
    lines.append(f'| `{name}` | {shown} | {takes} | {meaning} | {elsewhere} |')
    if nested:
      lines += rows(name, (type(default),))
  return lines


def page() -> str:
  """The whole page."""
  seed = hints_of(FinetuneConfig)['seed']
  lines = [
    '# Configuration',
    '',
    'Every field of a fine-tuning config with its default. Set one on the command line'
    ' with `--config.GROUP.FIELD=VALUE`; config files under `configs/` change many at'
    ' once. Lists are written with commas (`a,b`), and `None` as that. The last column'
    ' says what run_glue.py or PEFT call it.',
    '',
    f'`program` is `finetune`, `seed`, a {describe(seed)}, is folded into every random'
    f' draw, `method` is one of {", ".join(f"`{name}`" for name in METHODS)}. A config'
    ' file may have settings of several methods; on the command line those of another'
    ' method than the chosen one are refused.',
    '',
    'A value outside what a field takes is refused before anything is read. Whole'
    f' numbers are at most {LARGEST_INT}, unless the table says otherwise; other'
    ' numbers are finite in single precision.',
  ]
  methods = {name: (kind,) for name, (kind, _) in METHODS.items()}
  for group, kinds in (GROUPS | methods).items():
    if dataclasses.fields(kinds[0]):
      head = '| field | default | takes | meaning | elsewhere |\n|---|---|---|---|---|'
      lines += ['', f'## {group}', '', head, *rows(group, kinds)]
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  PATH.write_text(page(), encoding='utf-8')
