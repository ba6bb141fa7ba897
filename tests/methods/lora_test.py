"""Tests ../../adapad_jax/methods/lora.py step by step against huggingface/peft."""

import dataclasses
import math

import numpy as np
import pytest

from tests.methods import toy

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
STEPS = 50


@pytest.mark.parametrize(
  'settings', [{}, dict(stabilized=True), dict(b_rate_ratio=4.0)], ids=str
)
def test_fifty_steps_equal_peft(settings):
  """rsLoRA by peft's own flag; LoRA+ by its groups of parameters."""
  from tests.methods.torch_net import Net, Trainer

  ratio = settings.get('b_rate_ratio', 1.0)
  # Output directions at the same rate in every case: rounding grows with the rate.
  rates = dataclasses.replace(toy.problem().optimizer, learning_rate=0.05 / ratio)
  method = toy.build('lora', dict(rank=3) | settings, steps=STEPS, optimizer=rates)
  data = toy.batches(steps=STEPS)
  ours = toy.run(method, keep=range(STEPS), data=data)
  stabilized = settings.get('stabilized', False)
  # peft divides by the rank or its root.
  alpha = toy.problem().scale * (1 if stabilized else 3)
  config = peft.LoraConfig(
    r=3, lora_alpha=alpha, use_rslora=stabilized, target_modules=list(toy.SHAPES)
  )
  wrapped = peft.get_peft_model(Net(), config)
  theirs = Trainer(wrapped, method.problem, b_rate_ratio=ratio)
  start = ours.states[0].tuned.params
  for name in toy.SHAPES:
    theirs.factor(name, 'lora_A').data = torch.tensor(start[name].a_RI)
    assert not theirs.factor(name, 'lora_B').any()
  for t in range(STEPS):
    loss = theirs.step(t, {key: x[t] for key, x in data.items()})
    assert ours.history[t]['loss'] == pytest.approx(loss, rel=1e-4), f'step {t}'
    for name, one in ours.states[t + 1].tuned.params.items():
      for kind, want in (('lora_A', one.a_RI), ('lora_B', one.b_RO.T)):
        got = theirs.factor(name, kind).detach().numpy()
        np.testing.assert_allclose(want, got, atol=2e-4, err_msg=f'{name} {kind} {t}')
  deployed = toy.deployed(method, ours.states[STEPS]).components
  for name in toy.SHAPES:
    a, b = (theirs.factor(name, k).detach().numpy() for k in ('lora_A', 'lora_B'))
    scale = alpha / (math.sqrt(3) if stabilized else 3)
    np.testing.assert_allclose(
      deployed[name].weight(), scale * (b @ a).T, atol=1e-3, err_msg=name
    )


def test_the_groups_of_the_oracle_are_those_of_loraplus():
  """What `Trainer` is told of LoRA+ is what peft's own optimiser does."""
  from peft.optimizers import create_loraplus_optimizer

  from tests.methods.torch_net import Net, Trainer

  problem = toy.problem()
  config = peft.LoraConfig(r=3, target_modules=list(toy.SHAPES))
  wrapped = peft.get_peft_model(Net(), config)
  trainer = Trainer(wrapped, problem, b_rate_ratio=4.0)
  theirs = create_loraplus_optimizer(
    wrapped, torch.optim.AdamW, lr=0.1, loraplus_lr_ratio=4.0
  )
  rate = {id(p): g['lr'] for g in theirs.param_groups for p in g['params']}
  for group in trainer.steppers[0].param_groups:
    for p in group['params']:
      assert rate[id(p)] == pytest.approx(0.1 * group['factor'])
