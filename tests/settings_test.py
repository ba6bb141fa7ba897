"""Tests ../adapad_jax/settings.py: the border between config dicts and dataclasses."""

import dataclasses
import math
import re
import typing
from typing import Annotated

import numpy as np
import pytest

from adapad_jax.adapters import Targets
from adapad_jax.methods import METHODS
from adapad_jax.optim import Optimizer
from adapad_jax.own_model import Recipe
from adapad_jax.ranges import Count, Free, OneOf, Positive, Range
from adapad_jax.regression.config import RegressionConfig
from adapad_jax.settings import build, check, describe, hints_of
from adapad_jax.tasks import DataConfig
from adapad_jax.training.config import (
  FinetuneConfig,
  ModelConfig,
  TrainConfig,
  finetune_config,
)

# Of fields without a default.
NEEDED = {Recipe: {'steps': 1}}
TOO_LARGE = (math.inf, -math.inf, math.nan, 1e300, -1e300, 10**400, 2**70, -(2**70))


def groups():
  """(what users call it, dataclass) of everything that a config or a program sets."""
  found = [(name, kind) for name, (kind, _) in METHODS.items()]
  found += [('optimizer', Optimizer), ('Recipe', Recipe), ('adapter', Targets)]
  waiting = [('', FinetuneConfig), ('', RegressionConfig)]
  while waiting:
    where, kind = waiting.pop()
    found.append((where, kind))
    waiting += [
      (f'{where}.{name}'.lstrip('.'), hint)
      for name, hint in hints_of(kind).items()
      if dataclasses.is_dataclass(hint)
    ]
  return found


FIELDS = [
  (where, kind, name)
  for where, kind in groups()
  for name, hint in hints_of(kind).items()
  if hint != typing.Any and not dataclasses.is_dataclass(hint)
]


def bare(hint):
  """The type of a field's values and their range."""
  if typing.get_origin(hint) is Annotated:
    return typing.get_args(hint)
  inner = [k for k in typing.get_args(hint) if k not in (type(None), ...)]
  return bare(inner[0]) if inner else (hint, None)


def outside(hint):
  """Values that a field of this type must refuse."""
  kind, rule = bare(hint)
  others = (3, 'text', {'a': 1}, object())
  found = [value for value in others if not isinstance(value, kind)]
  found = [x for x in found if not (kind is float and x == 3)]
  found += [True] if kind is not bool else []
  if isinstance(rule, Range):
    found += [
      value for value in TOO_LARGE if kind is int or abs(value) > 1e40 or value != value
    ]
    found += [] if rule.least is None else [rule.least - 1]
    found += [] if rule.most is None else [kind(rule.most * 2 + 1)]
    found += [] if rule.above is None else [rule.above, 1e-60]
    found += [] if rule.below is None else [rule.below]
  found += ['nonsense'] if isinstance(rule, OneOf) else []
  found += [' '] if isinstance(rule, Free) and not rule.blank else []
  if typing.get_origin(hint) is tuple:
    # A name may look like a number: --config.data.labels=0,1 arrives as numbers.
    number = lambda value: type(value) in (int, float, bool)
    found = [value for value in found if kind is not str or not number(value)]
    return [(value,) for value in found] + [3, None]
  return found + ([] if type(None) in typing.get_args(hint) else [None])


def _is_float32(value):
  return -1e38 < value < 1e38


def test_every_dataclass_that_a_config_fills_is_walked():
  names = {where for where, _ in groups()}
  assert {'data', 'data.qa', 'head_optimizer', 'schedule', 'solver', 'full'} <= names
  assert len(FIELDS) > 120


def named(case):
  return f'{case[1].__name__}.{case[2]}'


@pytest.mark.parametrize('case', FIELDS, ids=named)
def test_what_a_field_does_not_take_is_refused_wherever_it_comes_from(case):
  where, kind, name = case
  rest = {n: 0 for n in ('seed', 'steps', 'budget')} if kind is FinetuneConfig else {}
  rest |= NEEDED.get(kind, {})
  for value in outside(hints_of(kind)[name]):
    choice = 'must|choose from|takes one or two'
    if kind is FinetuneConfig:
      with pytest.raises(ValueError, match=f'{name} .*({choice})'):
        finetune_config({name: value})
      continue
    with pytest.raises(ValueError, match=rf'config\.{where}\.{name} .*({choice})'):
      build(kind, rest | {name: value}, f'config.{where}')
    with pytest.raises(ValueError, match=rf'\b{user_name(case)} .*({choice})'):
      kind(**rest | {name: value})


def user_name(case):
  """The dotted name of a field as users set it."""
  where, kind, name = case
  known = {
    (Targets, 'patterns'): 'adapter.targets',
  }
  where = where.replace('head_optimizer', 'optimizer')
  return known.get((kind, name), f'{where}.{name}'.lstrip('.'))


def test_a_field_without_a_range_cannot_be_added():
  for hint in (int, float, str, tuple[int, ...], float | None):

    @dataclasses.dataclass(frozen=True)
    class Careless:
      size: hint = None

      def __post_init__(self):
        check(self, 'careless')

    with pytest.raises(TypeError, match='Careless.size states no range'):
      Careless()
    with pytest.raises(TypeError, match='Careless.size states no range'):
      build(Careless, {})


def test_messages_say_what_a_field_takes_and_what_it_got():
  says = {
    (TrainConfig, 'batch', 0): 'train.batch must be >= 1, got 0',
    (TrainConfig, 'batch', 2**70): f'>= 1 and at most 2147483647, got {2**70}',
    (TrainConfig, 'patience', -1): 'train.patience must be >= 0, got -1',
    (TrainConfig, 'epochs', math.inf): '>= 0 and finite, at most 3.4e+38, got inf',
    (TrainConfig, 'epochs', math.nan): '>= 0 and finite, at most 3.4e+38, got nan',
    (TrainConfig, 'steps', '5'): "train.steps must be of type int, got '5'",
    (DataConfig, 'holdout', 1): 'data.holdout must be in [0, 1), got 1.0',
    (ModelConfig, 'dtype', 'bfloat61'): "unknown model.dtype 'bfloat61'; did you mean"
    " 'bfloat16'? choose from ['bfloat16', 'float32']",
    (ModelConfig, 'source', ''): 'model.source must not be blank',
    (Recipe, 'scale', 1e-60): 'Recipe.scale must be > 0 and at least 1.2e-38, got',
    (Targets, 'patterns', 'query'): 'adapter.targets must be a tuple of values, got',
  }
  for (kind, name, value), message in says.items():
    with pytest.raises(ValueError, match=re.escape(message)):
      kind(**NEEDED.get(kind, {}) | {name: value})


def test_seeds_that_a_random_key_would_cut_are_refused():
  assert finetune_config({'seed': 2**32 - 1}).seed == 2**32 - 1
  for seed in (-1, 2**32, 2**70):
    with pytest.raises(ValueError, match=f'seed must be in 0..4294967295, got {seed}'):
      finetune_config({'seed': seed})


def test_what_a_field_takes_is_described_for_tables():
  said = lambda kind, name: describe(hints_of(kind)[name])
  assert said(TrainConfig, 'batch') == 'whole number >= 1'
  assert said(TrainConfig, 'buckets') == 'list: whole number >= 1'
  assert said(ModelConfig, 'head_dropout') == 'number in [0, 1), or None'
  assert said(ModelConfig, 'dtype') == "'float32', 'bfloat16'"
  assert said(ModelConfig, 'remat') == 'True, False'
  assert said(ModelConfig, 'scan') == 'True, False, or None'
  assert said(ModelConfig, 'source') == 'text, not blank'


def test_values_are_kept_as_their_types_say():
  kept = TrainConfig(batch=np.int64(8), epochs=2, buckets=[16, np.int32(32)])
  assert kept == TrainConfig(batch=8, epochs=2.0, buckets=(16, 32))
  assert type(kept.batch) is int and type(kept.epochs) is float
  hash(kept)


@pytest.mark.parametrize('given', [(), ('',), '', []])
def test_a_list_can_be_emptied_from_the_command_line(given):
  assert build(TrainConfig, {'buckets': given}).buckets == ()


def test_lists_come_as_tuples_or_as_text_with_commas():
  assert build(DataConfig, {'labels': (0, 1)}).labels == ('0', '1')
  mixed = build(DataConfig, {'labels': (True, 0.5)})
  assert mixed.labels == ('True', '0.5')
  assert build(DataConfig, {'text': 'title, body'}).text == ('title', 'body')
  assert build(TrainConfig, {'buckets': [16, 32]}).buckets == (16, 32)
  with pytest.raises(ValueError, match=r"config.train.buckets must be .* got '16'"):
    build(TrainConfig, {'buckets': ('16',)}, 'config.train')


@pytest.mark.parametrize('values', [None, 3, [('seed', 1)]])
def test_a_group_that_is_none_is_refused(values):
  with pytest.raises(ValueError, match='config.train must be a group of fields, got'):
    finetune_config({'train': values})
  with pytest.raises(ValueError, match='config must be a group of fields, got'):
    finetune_config(values)


def test_ranges_with_one_end_or_none():
  assert Range(above=1).holds(1.5) and not Range(above=1).holds(1)
  assert Range(most=2).describe(int) == '<= 2' and Range().describe(float) == ''
  assert Range(least=0, most=9).describe(int) == 'in 0..9'
  assert Range(above=0, below=1).describe(float) == 'in (0, 1)'
  assert describe(Count) == 'whole number >= 1' and describe(Positive) == 'number > 0'
