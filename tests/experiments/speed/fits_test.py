"""Tests ../../../experiments/speed/fits.py: the sizes, and what was recorded."""

import jax
import pytest

from adapad_jax.training.fits import needs
from experiments.results import matching
from experiments.speed.fits import EXPERIMENT, Case, _plan

# As counted in the released checkpoints, tied embeddings once.
PARAMETERS = {
  'Qwen3-0.6B': 596_049_920,
  'Qwen2.5-7B': 7_615_616_512,
  'Llama-3.1-70B': 70_553_706_496,
}


@pytest.mark.parametrize('model', PARAMETERS)
def test_models_have_the_released_numbers_of_parameters(model, tmp_path):
  plan = _plan(Case(model, 'bfloat16', 'adapad', 8, 16), tmp_path)
  arrays = jax.tree.leaves(plan.outlined.model)
  assert sum(x.size for x in arrays) == PARAMETERS[model]
  assert all(isinstance(x, jax.ShapeDtypeStruct) for x in arrays)


def test_what_is_recorded_is_what_comes_out(tmp_path):
  recorded = EXPERIMENT.run().results.rows()
  case = Case('Qwen3-0.6B', 'nf4', 'adapad', 16, 1024)
  (row,) = matching(recorded, {'model': case.model, 'weights': 'nf4', 'devices': 8})
  peak = needs(_plan(case, tmp_path), 8).peak / 2**30
  assert peak == pytest.approx(row['value'], rel=0.1)
