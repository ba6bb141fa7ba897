"""Every command that a page shows is checked, and what is quick is run."""

import contextlib
import importlib
import importlib.util
import io
import pathlib
import re
import shutil
import tomllib

import pytest

from experiments import harness
from tests import tiny
from tests.documented import ROOT, Command, ask, commands, words_of

PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted(ROOT.glob('docs/*.md'))]
PAGES += [ROOT / 'experiments/README.md', *sorted(ROOT.glob('experiments/*/*.md'))]
COMMANDS = [command for page in PAGES for command in commands(page)]
MAIN = ('python', '-m', 'adapad_jax.main')


def is_main(command):
  return command.words[:3] == MAIN


def check_main(words):
  pass  # All of them are checked in one process: `problems`.


def check_python(words):
  if words[:3] == MAIN:
    return check_main(words)
  assert words[1] == '-m', f'{words}: only modules are documented'
  try:
    spec = importlib.util.find_spec(words[2])
  except ModuleNotFoundError:
    spec = None
  assert spec, f'there is no module {words[2]}'
  source = pathlib.Path(spec.origin).read_text()
  assert "__name__ == '__main__'" in source, f'{words[2]} does not run'
  module = importlib.import_module(words[2]) if 'EXPERIMENT' in source else None
  if module:
    return check_experiment(module.EXPERIMENT, words[3:])
  for flag in words[3:]:
    name = flag.split('=')[0]
    assert name.startswith('--') and name.lstrip('-') in source, f'{flag} is unknown'


def check_experiment(experiment, given):
  """Refuses what its command line refuses; what it needs may be left to the reader."""
  lacking = [f'--{name}=x' for name in experiment.needs]
  told = io.StringIO()
  try:
    with contextlib.redirect_stderr(told):
      harness.parse(experiment, [*lacking, *given])
  except SystemExit:
    raise AssertionError(told.getvalue()) from None


def check_make(words):
  targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
  assert words[1] in targets, f'no target {words[1]}'


def check_pip(words):
  assert words[1] == 'install'
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  for word, following in zip(words[2:], (*words[3:], ''), strict=True):
    if word == '-r':
      assert (ROOT / following).is_file(), f'no file {following}'
    if found := re.fullmatch(rf'{project["name"]}\[(.*)\]', word):
      extras = found[1].split(',')
      assert set(extras) <= set(project['optional-dependencies'])


def check_source(words):
  assert words == ('source', '.venv/bin/activate')
  assert 'VENV ?= .venv' in (ROOT / 'Makefile').read_text()


KINDS = {
  'make': check_make,
  'pip': check_pip,
  'source': check_source,
  'python': check_python,
}

WRONG = (
  ('--mode=evla', '--workdir=x'),
  ('--config=configs/glue.py:quickstart', '--config.train.epoch=3'),
  ('--config=configs/glue.py:quickstart', '--config.adapad.r_max=0.5'),
  ('--config=configs/nothing.py',),
  ('--wrokdir=x',),
)


@pytest.fixture(scope='module')
def problems():
  """What is wrong with each command of the program."""
  flags = {command.line: command.words[3:] for command in COMMANDS if is_main(command)}
  flags |= {' '.join(wrong): wrong for wrong in WRONG}
  return dict(zip(flags, ask('check', list(flags.values()), ROOT), strict=True))


@pytest.mark.parametrize('command', COMMANDS, ids=lambda c: f'{c.page}: {c.line[:60]}')
def test_a_documented_command_is_known_and_its_flags_are_right(command, problems):
  assert command.words[0] in KINDS, f'nobody knows how to check {command.line!r}'
  KINDS[command.words[0]](command.words)
  assert not problems.get(command.line), problems[command.line]


def test_what_is_wrong_would_be_found(problems):
  assert all(problems[' '.join(wrong)] for wrong in WRONG)
  with pytest.raises(AssertionError, match='no target tset'):
    check_make(words_of('make tset  # all tests'))
  with pytest.raises(AssertionError, match='no module experiments.theory.nothing'):
    check_python(words_of('python -m experiments.theory.nothing'))
  with pytest.raises(AssertionError, match='arguments: --sedes=1'):
    check_python(words_of('python -m experiments.theory.self_correction --sedes=1'))
  with pytest.raises(AssertionError, match='--otu=x is unknown'):
    check_python(words_of('python -m experiments.export.smollm2 --otu=x'))


def test_commands_are_found_wherever_they_stand(tmp_path, monkeypatch):
  monkeypatch.setattr('tests.documented.ROOT', tmp_path)
  page = tmp_path / 'page.md'
  page.write_text(
    'Say `make test`, or `... --config.method=lora`; `x = 1` is not one.\n\n'
    '    h = x W\n    pip install x\n\n```sh\nls *.md  # unknown\na \\\n  b\n```\n'
    '```\npython -m here\n -> a drawing\n```\n'
  )
  found = [command.words for command in commands(page)]
  assert sorted(found) == sorted([
    ('ls', '*.md'), ('a', 'b'), ('python', '-m', 'here'), ('pip', 'install', 'x'),
    ('make', 'test'), (*MAIN, '--config.method=lora'),
  ])  # fmt: skip


def flags_of(config, prefix='config'):
  """A nested config as flags."""
  flags = []
  for name, value in config.items():
    if isinstance(value, dict):
      flags += flags_of(value, f'{prefix}.{name}')
    else:
      flags.append(f'--{prefix}.{name}={value}')
  return flags


# Documented commands that are run as they stand, in a folder with a tiny run in
# runs/quickstart, by the text that tells them.
RUN = (
  '--mode=eval --workdir=runs/quickstart --max_rank=1',
  '--mode=predict --workdir=runs/quickstart --input=mine.csv --output=out.csv',
  '--mode=export --workdir=runs/quickstart --out=adapter',
  '--mode=report --workdir=runs/quickstart',
)


@pytest.mark.slow
def test_documented_commands_run(tmp_path):
  tiny.make_data(tmp_path)
  shutil.copy(tmp_path / 'validation.csv', tmp_path / 'mine.csv')
  config = tiny.values(tmp_path)
  start = f'--config={ROOT}/configs/glue.py:classification'
  train = [start, *flags_of(config), '--workdir=runs/quickstart']
  shown = [' '.join(command.words[3:]) for command in COMMANDS if is_main(command)]
  assert set(RUN) <= set(shown)
  back = [
    start,
    *flags_of(config),
    '--mode=import',
    '--adapter=adapter',
    '--workdir=runs/imported',
  ]
  again = ['--mode=eval', '--workdir=runs/imported']
  sequence = [train, *(text.split() for text in RUN), back, again]
  assert ask('execute', sequence, tmp_path) == [''] * len(sequence)
  assert (tmp_path / 'out.csv').read_text().count('\n') == 41
  assert (tmp_path / 'adapter' / 'adapter_model.safetensors').is_file()
  assert (tmp_path / 'runs/quickstart/report.html').is_file()


def test_readme_has_commands():
  assert sum(command.page == 'README.md' for command in COMMANDS) > 10
  assert all(isinstance(command, Command) for command in COMMANDS)
