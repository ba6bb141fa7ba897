"""SmolLM2-135M says the answers: before and after AdaPaD and fixed-rank LoRA.

  python -m experiments.smollm2.convert /somewhere/smollm2
  python -m experiments.squad_generate.run --model=/somewhere/smollm2 --data=FOLDER

FOLDER has train-v1.1.json and dev-v1.1.json, of which a part is drawn.
"""

import argparse
import pathlib
import subprocess
import sys
from typing import Any

import jax

from adapad_jax.training.claim import read_workdir
from adapad_jax.training.plan import make_plan
from adapad_jax.training.result import adapter_parameters
from adapad_jax.training.saved import SavedRun, restore
from adapad_jax.workdir import CHECKPOINTS, CONFIG
from experiments.record import record, recorded

HERE = pathlib.Path(__file__).parent
# AdaPaD's budget lies between LoRA's one and two components in each of 210 modules.
METHODS = {
  'lora': ('--config.method=lora', '--config.lora.rank=2'),
  'lora-1': ('--config.method=lora', '--config.lora.rank=1'),
  'adapad': (
    '--config.method=adapad',
    '--config.adapad.budget=294',
    '--config.adapad.r_max=4',
    '--config.adapad.joint=0.75',
    '--config.adapad.polish=0.25',
  ),
}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('--model', required=True)
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, default=pathlib.Path('runs/squad'))
  parser.add_argument('--methods', default='adapad,lora,lora-1')
  parser.add_argument('--steps', type=int, default=100)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--held', type=int, default=500)
  parser.add_argument('--length', type=int, default=320)
  args = parser.parse_args()
  about = {'steps': args.steps, 'batch': args.batch, 'questions': args.held}
  for method in args.methods.split(','):
    workdir = args.out / f'say-{method}'
    run = trained(workdir) or train(method, workdir, args)
    if not any(row['figure'].endswith(' before') for row in recorded(HERE)):
      keep(untrained(run), 'before', questions=args.held)
    details = about | {'method': method, 'device': jax.devices()[0].device_kind}
    keep(run.progress.last['metrics'], 'after', **details)
    size = adapter_parameters(run.plan, run.deployed)
    record(HERE, 'adapter size', size, 'parameters', **details)
    record(HERE, 'training', round(run.progress.seconds, 1), 's', **details)


def keep(metrics: dict[str, float], when: str, **details: Any) -> None:
  """Records the official metrics."""
  for name, value in metrics.items():
    unit = '' if name.endswith('total') else '%'
    record(HERE, f'{name} {when}', round(value, 3), unit, **details)


def train(method: str, workdir: pathlib.Path, args: argparse.Namespace) -> SavedRun:
  """Runs the documented command, which goes on where it was stopped."""
  flags = [
    '--config=configs/squad.py:v1,decoder',
    f'--workdir={workdir}',
    f'--config.model.source={args.model}',
    '--config.model.dtype=float32',
    f'--config.data.train={args.data / "train-v1.1.json"}',
    f'--config.data.validation={args.data / "dev-v1.1.json"}',
    f'--config.data.max_length={args.length}',
    '--config.data.qa.max_answer=16',
    '--config.data.qa.max_question=48',
    '--config.data.qa.overlap=64',
    f'--config.data.max_eval_rows={args.held}',
    f'--config.train.steps={args.steps}',
    f'--config.train.batch={args.batch}',
    '--config.train.eval_batch=16',
    '--config.train.evaluations=1',
    '--config.train.checkpoint_every=20',
    '--config.optimizer.learning_rate=1e-3',
    '--config.train.buckets=(256,)',
    *METHODS[method],
  ]
  print('python -m adapad_jax.main', *flags, flush=True)
  subprocess.run([sys.executable, '-m', 'adapad_jax.main', *flags], check=True)
  return trained(workdir)


def trained(workdir: pathlib.Path) -> SavedRun | None:
  """The last state of a run that has taken all its rounds."""
  if not (workdir / CONFIG).is_file():
    return None
  plan = make_plan(read_workdir(workdir))
  if not (workdir / CHECKPOINTS / 'latest' / str(plan.method.rounds)).is_dir():
    return None
  return restore(workdir, 'latest')


def untrained(run: SavedRun) -> dict[str, float]:
  """The official metrics of the model alone: the update cut to no components."""
  session = run.session
  with jax.set_mesh(session.plan.mesh):
    return session.evaluator.validate(session.params, run.deployed, 0)


if __name__ == '__main__':
  main()
