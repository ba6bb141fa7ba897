"""Tests ../../../experiments/speed/roofline.py: what is predicted of a program."""

import jax
import pytest

from experiments.harness import missing
from experiments.speed import elsewhere, roofline
from experiments.speed.case import Case, bound
from experiments.speed.groups import GROUPS, group_of
from experiments.speed.kernels import Instruction, Kernel, frames, kernels
from experiments.speed.model_flops import step_flops
from experiments.speed.training_steps import our_outline, our_problem
from tests.experiments.speed.kernels_test import PROGRAM


def kernel(op='fusion', path='', frame=0, **fields):
  about = f', metadata={{op_name="{path}" stack_frame_id={frame}}}'
  hero = Instruction('hero', op, (('f32', (8,)),), (), about, is_root=True)
  fields = dict(name='k', times=1, flops={}, work=0.0, read=0, written=0) | fields
  return Kernel(hero=hero, **fields)


def test_a_kernel_takes_as_long_as_its_tightest_limit():
  by = roofline.seconds(
    kernel(flops={'bf16': 989e9, 'f32': 494e9}, work=3.345408e9, read=48, written=0)
  )
  assert by == {
    'products': pytest.approx(2e-3),
    'units': pytest.approx(1e-4),
    'memory': pytest.approx(1e-11),
    'launch': 3e-6,
  }


def test_kernels_of_a_loop_are_added_up_by_group_and_limit():
  total, limits, groups = roofline.added(kernels(PROGRAM), frames(PROGRAM))
  # 3 in a loop of 12, and 2 after it; all are as small as can be.
  assert total == pytest.approx(38 * 3e-6)
  assert limits == {'launch': pytest.approx(38 * 3e-6)}
  assert groups['dropout']['kernels'] == 12
  assert sum(one['kernels'] for one in groups.values()) == 38
  large = kernel(frame=2, times=3, flops={'bf16': 1e12}, read=10**9, written=10**9)
  _, limits, groups = roofline.added([large], frames(PROGRAM))
  found = groups['dropout']
  assert (found['gflop'], found['gigabytes'], found['launch_ms']) == (3000.0, 6.0, 0.0)
  assert limits == {'products': pytest.approx(3 * 1e12 / 989e12)}
  first = roofline.dearest(kernels(PROGRAM), frames(PROGRAM), top=1)
  assert first == [['product', 'dropout', 12, 3.0, 'launch']]


@pytest.mark.parametrize(
  'asked, is_product, path, expected',
  [
    ('linear.py:Linear.__call__', True, 'jvp()/dot', 'frozen matrices, forward'),
    (
      'linear.py:Linear.__call__',
      True,
      'transpose(jvp())/dot',
      'frozen matrices, back',
    ),
    ('linear.py:Linear.__call__', False, '', 'activations, biases'),
    ('distances.py:skew', False, '', 'relative positions: shifts'),
    ('attention.py:attention', True, '', 'attention products'),
    ('attention.py:attention', False, '', 'softmax'),
    ('layers.py:LayerNorm.__call__', False, '', 'norms'),
    ('stack.py:run_blocks', False, '', 'copies into and out of'),
    ('optim.py:Optimizer.step', False, '', 'optimiser, masks'),
  ],
)
def test_a_kernel_belongs_to_who_asked_for_it(asked, is_product, path, expected):
  one = kernel(path=path, frame=7, flops={'bf16': 1.0} if is_product else {})
  assert group_of(one, {7: (asked, 'deberta.py:Layer.__call__')}).startswith(expected)
  assert group_of(one, {7: (asked,)}) in GROUPS


def test_a_compiled_step_has_the_operations_that_it_needs():
  case = Case(model='MiniLM', rows=2, length=32, scan=True, rank=1, method='lora')
  text = elsewhere.lowered(case, jax.devices()[0]).compile().as_text()
  found = sum(one.times * sum(one.flops.values()) for one in kernels(text))
  outline = our_outline(case.model)
  shapes = bound(case, our_problem(outline, case.rows)).problem.shapes
  # Components of one row each, and the head, are what the count leaves out.
  assert 1 <= found / step_flops(case.model, 2, 32, shapes) < 1.1


def test_what_needs_no_card_is_recorded():
  one = roofline.EXPERIMENT
  assert not missing(one, one.run())
