"""The commands that pages show, and a process that checks or runs many of them.

python -m tests.documented check < COMMANDS.json

imports the program once and then forks a child for every command, because flags can
be parsed once in a process. Prints what was wrong with each, '' if nothing. `execute`
in place of `check` runs them, as `refuse` does with those that end before the work.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import pkgutil
import re
import shlex
import subprocess
import sys
import traceback

ROOT = pathlib.Path(__file__).parents[1]
LAUNCHERS = ('srun',)
# Imported by nearly every mode that runs, for seconds.
SHARED_IMPORTS = (
  'orbax.checkpoint',
  'sklearn.metrics',
  'tensorboardX',
  'transformers.models.auto.tokenization_auto',
)
SHELLS = ('sh', 'bash', 'shell', 'console')
# What a line of a shell starts with, outside blocks that say that they are shell.
LOOKS_LIKE_SHELL = re.compile(
  r'(\$ |\.\.\. --|[A-Z_]+=\S+ |(python3?|pip|make|source|git|cd|apt-get|docker)\s)'
)


@dataclasses.dataclass(frozen=True)
class Command:
  """One command as a page shows it.

  Attributes:
    page: where.
    line: the text, continued lines joined.
    words: what a shell makes of it; comments and settings of variables left out.
  """

  page: str
  line: str
  words: tuple[str, ...]


def commands(page):
  """All commands of a Markdown page."""
  text = page.read_text(encoding='utf-8')
  found = []
  fence = re.compile(r'^```(\w*)\n(.*?)^```', re.M | re.S)
  for language, block in fence.findall(text):
    lines = joined(block)
    if language in SHELLS:
      found += lines
    elif not language:
      found += [line for line in lines if LOOKS_LIKE_SHELL.match(line)]
  prose = fence.sub('', text)
  indented = '\n'.join(re.findall(r'^    (.*)$', prose, re.M))
  spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', prose)]
  for line in (*joined(indented), *spans):
    if LOOKS_LIKE_SHELL.match(line):
      found.append(line)
  name = str(page.relative_to(ROOT))
  made = [Command(name, line, words_of(line)) for line in found]
  return [command for command in made if command.words]


def joined(block):
  """Lines of a block, those that end in a backslash with the next one."""
  return [line.strip() for line in re.sub(r'\\\n\s*', '', block).splitlines()]


def words_of(line):
  # A loop that starts processes stands for its first one.
  loop = re.fullmatch(r'for (\w+) in (\S+)[^;]*; do (.*\S) *& done; wait', line)
  if loop:
    name, first, line = loop.groups()
    line = line.replace(f'${name}', first)
  words = shlex.split(line.removeprefix('$ '), comments=True)
  if words and words[0] in LAUNCHERS and 'python' in words:
    words = words[words.index('python') :]
  while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
    words = words[1:]
  # 'python -m adapad_jax.main ...' stands for any flags, '... --flag' for any start.
  if words and words[-1] == '...':
    words = words[:-1]
  if words and words[0] == '...':
    words = ['python', '-m', 'adapad_jax.main', *words[1:]]
  return tuple(words)


def ask(job, many_flags, folder):
  """What a process that is started in a folder has to say of each command."""
  done = subprocess.run(
    [sys.executable, '-W', 'ignore', '-m', 'tests.documented', job],
    input=json.dumps(many_flags),
    capture_output=True,
    text=True,
    timeout=600,
    cwd=folder,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_NUM_CPU_DEVICES': '1'},
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


def check(flags):
  """Parses flags and reads the config that they mean; touches no data."""
  from adapad_jax import main
  from adapad_jax.commands import registry
  from adapad_jax.commands.flags import FLAGS, require_read
  from adapad_jax.commands.train import PROGRAMS
  from adapad_jax.regression.config import RegressionConfig
  from adapad_jax.settings import build
  from adapad_jax.training import finetune_config

  rest = main.parse(['main', *flags])[1:]
  if rest:
    raise ValueError(f'not flags: {rest}')
  values = main.flags.FLAGS
  if values.mode not in registry.MODES:
    raise ValueError(f'unknown mode {values.mode}')
  given = [name for name in ('config', *FLAGS) if values[name].present]
  require_read(values.mode, given)
  if main._CONFIG.value is None:
    return
  config = main._CONFIG.value.to_dict()
  program = config['program']
  if program not in PROGRAMS:
    raise ValueError(f'unknown program {program}')
  if program == 'finetune':
    finetune_config(config)
  else:
    build(RegressionConfig, config)


def execute(flags):
  """Runs the program as the shell would."""
  from adapad_jax import main

  main.main(main.parse(['main', *flags])[:1])


def in_child(job, flags):
  """The job's error in a forked child, '' if it went well."""
  read, write = os.pipe()
  child = os.fork()
  if child:
    os.close(write)
    with os.fdopen(read) as pipe:
      text = pipe.read()
    os.waitpid(child, 0)
    return text
  problem = ''
  sys.argv = ['main', *flags]  # Where ml_collections looks for fields to override.
  try:
    os.dup2(2, 1)  # Standard output is for the answer.
    job(flags)
  except SystemExit as stop:
    problem = str(stop.code or '')
  except BaseException:
    problem = traceback.format_exc()
  with os.fdopen(write, 'w') as pipe:
    pipe.write(problem)
  sys.stderr.flush()
  os._exit(0)


def main():
  name = sys.argv[1]
  job = {'check': check, 'execute': execute, 'refuse': execute}[name]
  # All that children need is imported before they fork; no device is.
  import configs.glue  # noqa: F401
  from adapad_jax import commands

  for found in pkgutil.iter_modules(commands.__path__, 'adapad_jax.commands.'):
    importlib.import_module(found.name)
  if name == 'execute':
    for library in SHARED_IMPORTS:
      importlib.import_module(library)
  print(json.dumps([in_child(job, flags) for flags in json.load(sys.stdin)]))


if __name__ == '__main__':
  main()
