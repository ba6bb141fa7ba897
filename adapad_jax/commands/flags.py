"""Every flag: what it means, and the modes that read it."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Flag:
  """One flag of the command line.

  Attributes:
    default: its value if it is not given, which also tells its type where `kind` does
      not.
    help: one line.
    modes: that read it; for all others it is an error.
    is_path: whether `~` stands for the home folder in it.
    kind: its type: str, int, bool, float, or list for text that may be given several
      times.
  """

  default: str | int | bool | None
  help: str
  modes: tuple[str, ...]
  is_path: bool = False
  kind: type = str

  @property
  def type(self) -> type:
    """What it holds."""
    known = isinstance(self.default, bool | int)
    return type(self.default) if known else self.kind


_RUNS = ('eval', 'predict', 'chat', 'export', 'push')
# What answers prompts.
_SAYS = ('predict', 'chat')
_CUTS = (*_RUNS, 'rerank')
_WRITES = ('export', 'push', 'rerank')
# What several processes can do together.
TOGETHER = ('train', 'eval', 'predict', 'info')

# Defined by the library of config files, which has a type of its own.
CONFIG = Flag(None, 'What to train.', ('train', 'import', 'rerank', 'info'))
FLAGS: dict[str, Flag] = {
  'workdir': Flag(
    None,
    'Folder of the run; runs/... if not given. Of report: or several, A,B,C.',
    ('train', *_RUNS, 'import', 'report', 'info'),
    is_path=True,
  ),
  'dry_run': Flag(False, 'Only print what training would do.', ('train',)),
  'checkpoint': Flag('best', 'Which state to restore: best or latest.', _RUNS),
  'split': Flag('', 'Split to evaluate or predict.', ('eval', 'predict')),
  'input': Flag(
    '',
    'File to predict, to evaluate (with labels) or to re-rank on.',
    ('eval', 'predict', 'rerank'),
    is_path=True,
  ),
  'output': Flag(
    '',
    'Where predictions go; the suffix is the format. Of report: the comparison.',
    ('predict', 'report'),
    is_path=True,
  ),
  'overwrite': Flag(False, 'Replace an output that exists.', ('predict', 'report')),
  'max_rank': Flag(0, 'Cut every module to so many components; 0: all.', _CUTS),
  'budget': Flag(0, 'Keep so many components over all modules; 0: all.', _CUTS),
  'parameters': Flag(
    0, 'Keep at most so many parameters over all modules.', ('rerank',)
  ),
  'order': Flag(
    'outputs',
    "What components are kept by: 'outputs' of the model on text, or 'svd'.",
    ('rerank',),
  ),
  'temperature': Flag(
    None,
    'Divides logits before a draw; 0 takes the likeliest token. By default, as the'
    ' others here, what data.generation of the run says.',
    _SAYS,
    kind=float,
  ),
  'top_k': Flag(None, 'Draw among so many likeliest tokens; 0: all.', _SAYS, kind=int),
  'top_p': Flag(
    None, 'Draw among the likeliest tokens of this share.', _SAYS, kind=float
  ),
  'max_new_tokens': Flag(None, 'Longest answer in tokens.', _SAYS, kind=int),
  'stop': Flag(None, 'Text that ends an answer; may be repeated.', _SAYS, kind=list),
  'seed': Flag(None, 'Of the draws; 0 if not given.', _SAYS, kind=int),
  'system': Flag('', 'System message of a chat.', ('chat',)),
  'format': Flag('peft', 'Of an export: peft, peft-uniform, merged or gguf.', _WRITES),
  'out': Flag('', 'Folder of an export, which must not exist yet.', _WRITES, True),
  'base_name': Flag('', 'What an export calls its base model.', _WRITES),
  'adapter': Flag(
    '',
    'PEFT adapter to import or re-rank: a folder, or an id on the hub.',
    ('import', 'rerank'),
    is_path=True,
  ),
  'repo': Flag('', 'OWNER/NAME on the hub that a push writes.', ('push',)),
  'public': Flag(False, 'Let everybody see a repository that a push makes.', ('push',)),
  'tuned': Flag(
    '', 'Fully fine-tuned model to re-rank, as model.source.', ('rerank',), True
  ),
  'coordinator': Flag('', 'HOST:PORT where several processes meet.', TOGETHER),
  'processes': Flag(0, 'How many processes there are; 0: this one.', TOGETHER),
  'process_id': Flag(-1, 'Which of them this is; 0 writes and talks.', TOGETHER),
  'cluster': Flag(False, 'Find the processes of SLURM, Open MPI, a TPU pod.', TOGETHER),
  'heartbeat': Flag(30, 'Seconds after which a silent process is dead.', TOGETHER),
}
# Of the start of the program, not of a mode.
_STARTING = (
  'workdir',
  'coordinator',
  'processes',
  'process_id',
  'cluster',
  'heartbeat',
)
OPTIONS = tuple(name for name in FLAGS if name not in _STARTING)

# What to do instead, beside calling another mode.
_INSTEAD = {
  'config': (
    'a run is opened as it was trained: name it by --workdir=FOLDER, choose rows by'
    ' --split=NAME or --input=FILE'
  ),
}


def require_read(mode: str, given: Iterable[str]) -> None:
  """Refuses flags that a mode does not read.

  Args:
    mode: a mode there is.
    given: names of the flags that were given, whatever their values.

  Raises:
    ValueError: naming the first, and the modes that read it.
  """
  for name in given:
    modes = (CONFIG if name == 'config' else FLAGS[name]).modes
    if mode not in modes:
      instead = f'; {_INSTEAD[name]}' if name in _INSTEAD else ''
      raise ValueError(
        f'--{name} is not read by --mode={mode}, only by'
        f' {", ".join(f"--mode={one}" for one in modes)}{instead}'
      )


def expanded(options: Mapping[str, Any]) -> dict[str, Any]:
  """The options with `~` expanded in paths."""
  return {
    name: os.path.expanduser(value) if FLAGS[name].is_path else value
    for name, value in options.items()
  }
