"""Tests ../../adapad_jax/adapters/targets.py."""

import re

import pytest
from flax import nnx

from adapad_jax.adapters import Targets, choose, linear_shapes
from tests.adapters.net import Net

SHORT = {'first': r'layer\.\d+\.up'}


def chosen(*patterns, scan=False, **kw):
  model = nnx.eval_shape(lambda: Net(scan=scan, layers=12))
  return choose(model, Targets(patterns, **kw), SHORT, ('classifier',))


@pytest.mark.parametrize('scan', [False, True])
def test_layers_come_in_natural_order_under_unrolled_names(scan):
  shapes = linear_shapes(nnx.eval_shape(lambda: Net(scan=scan, layers=12)))
  names = [f'layer.{i}.{leaf}' for i in range(12) for leaf in ('down', 'up')]
  assert list(shapes) == ['classifier', *names]
  assert shapes['layer.10.up'] == (4, 8) and shapes['layer.2.down'] == (8, 4)


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('pattern', ['first', 'up', r'layer\.\d+\.u.'])
def test_every_vocabulary_finds_the_same_layers(pattern, scan):
  assert list(chosen(pattern, scan=scan)) == [f'layer.{i}.up' for i in range(12)]


def test_all_linear_leaves_heads_out():
  assert len(chosen('all-linear')) == 24
  assert list(chosen('all-linear', exclude=('up',), layers=(3,))) == ['layer.3.down']


@pytest.mark.parametrize(
  'patterns, kw, message',
  [
    (('firts',), {}, r"'firts' matches no .* nearest: \['first'"),
    (('up', 'dwon'), {}, r"'dwon' .* nearest: \['down'"),
    (('classifier',), {}, "'classifier' matches no adaptable"),
    (('up',), {'layers': (12,)}, r'layers \[12\] do not exist; choose from \[0, 1'),
    (('up',), {'exclude': ('up',)}, 'leaves nothing'),
    (('up(',), {}, r"'up\(' is no regex"),
    ((), {}, 'empty'),
  ],
)
def test_patterns_without_a_match_are_refused(patterns, kw, message):
  with pytest.raises(ValueError, match=message):
    chosen(*patterns, **kw)


def test_message_lists_short_names_and_endings():
  with pytest.raises(ValueError, match=re.escape("['first'], layers end in ['down',")):
    chosen('nothing')
