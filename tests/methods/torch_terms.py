"""The toy network in torch with updates by a formula, for `torch_net.Trainer`."""

import torch

from tests.methods import toy
from tests.methods.torch_net import Net, Trainer


class Adapted(torch.nn.Module):
  """Factors A (R, in) and B (out, R) of every module, and what becomes of them.

  `delta(A, B)` is the update, (out, in); it may be exchanged before every step.
  """

  def __init__(self, start):
    super().__init__()
    self.net = Net()
    leaf = lambda x: torch.nn.Parameter(torch.tensor(x))
    factors = lambda part: torch.nn.ParameterDict(
      {name: leaf(part(one)) for name, one in start.items()}
    )
    self.lora_A = factors(lambda one: one.a_RI)
    self.lora_B = factors(lambda one: one.b_RO.T.copy())
    self.delta = None

  @property
  def base_model(self):
    return self

  def forward(self, x, y, weight):
    with_updates = {
      f'{name}.weight': getattr(self.net, name).weight
      + self.delta(self.lora_A[name], self.lora_B[name])
      for name in toy.SHAPES
    }
    return torch.func.functional_call(self.net, with_updates, (x, y, weight))

  def update(self, name):
    """The update of a module as it is deployed here, (in, out)."""
    found = self.delta(self.lora_A[name], self.lora_B[name])
    return found.detach().numpy().T


def trainer(start, problem):
  """AdamW steps of such a network from our start, a `LowRank` by module."""
  return Trainer(Adapted(start), problem)
