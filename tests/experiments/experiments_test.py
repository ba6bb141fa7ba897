"""Every experiment under ../../experiments: its name, rows and table."""

import importlib
import json
import pathlib
import typing

import pytest

from experiments import harness

HERE = pathlib.Path(harness.__file__).parent
MODULES = [
  f'{path.parent.name}.{path.stem}'
  for path in sorted(HERE.glob('*/*.py'))
  if 'EXPERIMENT = ' in path.read_text()
]


def experiment(name):
  return importlib.import_module(f'experiments.{name}').EXPERIMENT


def test_every_file_of_results_belongs_to_an_experiment():
  files = {f'{path.parts[-3]}.{path.stem}' for path in HERE.glob('*/results/*.jsonl')}
  assert files <= set(MODULES) and len(files) > 20


@pytest.mark.parametrize('name', MODULES)
def test_what_is_recorded_has_a_table(name):
  one = experiment(name)
  assert one.name == name
  run = one.run()
  rows = run.results.rows()
  assert all({'figure', 'value', 'unit', 'when'} <= set(row) for row in rows)
  # A head and a rule at least; that of 'glue.comparison' waits for its options.
  if rows and name != 'glue.comparison':
    assert '\n| ---' in one.table(run)
  assert json.loads(json.dumps(rows)) == rows


@pytest.mark.parametrize('name', MODULES)
def test_every_choice_can_be_given_by_its_flag(name):
  one = experiment(name)
  needed = [f'--{option}=x' for option in one.needs]
  for option, hint in typing.get_type_hints(type(one.options)).items():
    choices = typing.get_args(next(iter(typing.get_args(hint)), None))
    several = typing.get_origin(hint) is tuple and choices
    for choice in choices if several else ():
      given = harness.parse(one, [*needed, f'--{option}={choice}'])
      assert getattr(given, option) == (choice,)


@pytest.mark.parametrize('name', [name for name in MODULES if 'theory' in name])
def test_theory_is_recorded_with_its_defaults(name):
  one = experiment(name)
  assert not harness.missing(one, one.run())
  assert harness.missing(one, one.run(again=True))
  assert harness.missing(one, one.run(seeds=3))


def test_what_needs_no_device_is_recorded():
  for name in ('speed.collectives', 'speed.regression'):
    one = experiment(name)
    assert not harness.missing(one, one.run())
