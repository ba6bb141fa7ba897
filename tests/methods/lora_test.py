"""Tests ../../adapad_jax/methods/lora.py step by step against huggingface/peft."""

import numpy as np
import pytest

from tests.methods import toy

torch = pytest.importorskip('torch')
peft = pytest.importorskip('peft')
STEPS = 50


def test_fifty_steps_equal_peft():
  from tests.methods.torch_net import Net, Trainer

  method = toy.build('lora', dict(rank=3), steps=STEPS)
  data = toy.batches(steps=STEPS)
  ours = toy.run(method, keep=range(STEPS), data=data)
  config = peft.LoraConfig(r=3, lora_alpha=6.0, target_modules=list(toy.SHAPES))
  theirs = Trainer(peft.get_peft_model(Net(), config), method.problem)
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
