"""Tests singular values of updates against what people use to make a LoRA of one."""

import numpy as np
import pytest

from adapad_jax.reranking import alike, truncate


def converted(rank):
  """Delta W by module, and PEFT's LoRA of that rank in its place, as its product."""
  torch, peft = pytest.importorskip('torch'), pytest.importorskip('peft')
  torch.manual_seed(0)
  layers = {'up': torch.nn.Linear(12, 20), 'down': torch.nn.Linear(20, 12)}
  loha = peft.LoHaConfig(r=3, target_modules=[*layers], init_weights=False)
  model = peft.get_peft_model(torch.nn.ModuleDict(layers), loha)
  _, state = peft.convert_to_lora(model, rank=rank)
  base = model.base_model.model
  deltas = {n: base[n].get_delta_weight('default').detach().numpy().T for n in layers}
  part = lambda name, which: state[f'base_model.model.{name}.lora_{which}.weight']
  products = {n: (part(n, 'B') @ part(n, 'A')).numpy().T for n in layers}
  return deltas, products


@pytest.mark.parametrize('rank', [1, 3])
def test_equal_ranks_by_singular_values_are_pefts_conversion(rank):
  deltas, products = converted(rank)
  ours = alike(truncate(deltas, 12), {}, rank).adapter
  for name, delta in deltas.items():
    assert np.linalg.matrix_rank(delta) > 3
    np.testing.assert_allclose(ours.modules[name].weight(), products[name], atol=1e-6)
