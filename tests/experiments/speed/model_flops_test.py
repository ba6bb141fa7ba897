"""Counted operations against those of the program that XLA is given."""

import jax
import jax.numpy as jnp
import pytest

from adapad_jax.adapters import Targets, choose
from experiments.speed import training_steps as steps
from experiments.speed.model_flops import forward_flops, step_flops, utilisation

ROWS, LENGTH = 2, 128


@pytest.fixture(scope='module', params=['MiniLM', 'Qwen3-0.6B'])
def outlined(request: pytest.FixtureRequest) -> tuple[str, steps.Pretrained]:
  """A model without weights and its name; in Qwen3 N * H is twice D."""
  return request.param, steps.our_outline(request.param)


def test_forward_counts_the_products(outlined: tuple[str, steps.Pretrained]) -> None:
  name, model = outlined
  shapes = choose(model.model, Targets(), model.targets, model.head_modules)
  ids_BL = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)
  batch = {'ids_BL': ids_BL, 'mask_BL': ids_BL}
  lowered = jax.jit(lambda model, batch: model(batch)).lower(model.model, batch)
  # The program also counts norms, softmax and activations, a few percent.
  ratio = lowered.cost_analysis()['flops'] / forward_flops(name, ROWS, LENGTH, shapes)
  assert 1 < ratio < 1.06


def test_a_step_needs_no_gradient_of_frozen_matrices() -> None:
  shapes = {'one': (10, 20)}
  forward = forward_flops('MiniLM', 1, 4, shapes)
  attended = forward_flops('MiniLM', 1, 4, {})
  assert forward - attended == 2 * 4 * 10 * 20
  expected = 2 * (forward - attended) + 3 * attended
  assert step_flops('MiniLM', 1, 4, shapes) == expected


def test_utilisation_needs_a_known_peak() -> None:
  assert utilisation(98.9e12, 'NVIDIA H100 80GB HBM3', 'bfloat16') == 0.1
  assert utilisation(98.9e12, 'NVIDIA H100 80GB HBM3', 'float32') is None
  assert utilisation(98.9e12, 'cpu', 'bfloat16') is None
