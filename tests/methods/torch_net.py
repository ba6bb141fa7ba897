"""The toy network in torch, its weights those of `toy`, and its AdamW steps."""

import types

import numpy as np
import torch

from tests.methods import toy


class Net(torch.nn.Module):
  """Returns an object with the mean loss, as transformers' models do."""

  def __init__(self):
    super().__init__()
    model, head = toy.network()
    for name, (wide, high) in toy.SHAPES.items():
      self.add_module(name, torch.nn.Linear(wide, high, bias=False))
      getattr(self, name).weight.data = torch.tensor(model[name].T)
    self.out = torch.nn.Linear(toy.SHAPES['down'][1], toy.CLASSES)
    self.out.weight.data = torch.tensor(head['out']['kernel'].T)
    self.out.bias.data = torch.tensor(head['out']['bias'])

  def forward(self, x, y, weight):
    for name in toy.SHAPES:
      x = torch.tanh(getattr(self, name)(x))
    loss_B = torch.nn.functional.cross_entropy(self.out(x), y, reduction='none')
    return types.SimpleNamespace(loss=(loss_B * weight).sum() / weight.sum())


class Trainer:
  """AdamW for adapter and head, each with its own clipping, rates as in the problem."""

  def __init__(self, peft_model, problem, b_rate_ratio=1.0):
    self.model, self.problem = peft_model, problem
    named = dict(peft_model.named_parameters())
    self.head = [p for name, p in named.items() if '.out.' in name]
    for p in self.head:
      p.requires_grad_(True)
    self.adapter = [p for name, p in named.items() if 'lora_' in name]
    parts = lambda kind: [p for n, p in named.items() if 'lora_' in n and kind(n)]
    by_factor = [
      {'params': parts(lambda n: 'lora_B' not in n), 'factor': 1.0},
      {'params': parts(lambda n: 'lora_B' in n), 'factor': b_rate_ratio},
    ]
    self.groups = [
      (self.adapter, problem.optimizer),
      (self.head, problem.head_optimizer),
    ]
    self.steppers = [
      torch.optim.AdamW(
        groups, lr=0.0, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=o.weight_decay
      )
      for groups, o in (
        (by_factor, problem.optimizer),
        ([{'params': self.head, 'factor': 1.0}], problem.head_optimizer),
      )
    ]

  def step(self, t, batch):
    """One step; returns the task's loss (and the regulariser, if peft adds one)."""
    for stepper in self.steppers:
      stepper.zero_grad()
    args = torch.tensor(batch['x']), torch.tensor(batch['y']).long()
    # PeftModel.forward would go around the tuner, where AdaLoRA adds its regulariser.
    loss = self.model.base_model(*args, torch.tensor(batch['weight'])).loss
    loss.backward()
    for (params, optimizer), stepper in zip(self.groups, self.steppers, strict=True):
      torch.nn.utils.clip_grad_norm_(params, optimizer.clip)
      rate = optimizer.rate_at(np.float32(t), np.float32(t), self.problem.steps)
      for group in stepper.param_groups:
        group['lr'] = group['factor'] * float(rate)
      stepper.step()
    return float(loss.detach())

  def factor(self, module, kind):
    """'lora_A', 'lora_B' or 'lora_E' of a module, as a torch parameter."""
    layer = getattr(self.model.base_model.model, module)
    found = getattr(layer, kind)['default']
    return getattr(found, 'weight', found)
