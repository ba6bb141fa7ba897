"""The torch side of `training_steps`: transformers' models and PEFT's LoRA.

On a CUDA device where torch sees one, else on two threads of the CPU.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
import transformers

from adapad_jax.adapters import Targets, choose
from adapad_jax.models import Pretrained
from experiments.speed.training_steps import CONFIGS, Batch
from experiments.timing import Waited


def torch_device() -> torch.device:
  """The card, or the CPU."""
  return torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def device_name() -> str:
  """The card's name, or 'cpu'."""
  return torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'


def peak_bytes() -> int | None:
  """Most bytes that torch held on the card; None without one."""
  return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def torch_model(name: str, dtype: str = 'float32', **fields: Any) -> Any:
  """transformers' classifier of the same size, with its default attention.

  Products of float32 matrices may use TF32 on a card, as JAX's do by default.

  Args:
    name: of `CONFIGS`.
    dtype: of all its parameters.
    **fields: of config.json, to replace.
  """
  torch.set_num_threads(2)
  torch.set_float32_matmul_precision('high')
  fields = CONFIGS[name] | fields
  config = transformers.AutoConfig.for_model(fields.pop('model_type'), **fields)
  model = transformers.AutoModelForSequenceClassification.from_config(config)
  return model.to(torch_device(), getattr(torch, dtype))


def torch_forward(model: Any, batch: Batch) -> Waited:
  """A call runs the model without gradients."""
  inputs = _torch_inputs(batch)

  def run() -> Any:
    model.eval()
    with torch.no_grad():
      return model(**inputs).logits

  return Waited(run, _wait)


def torch_products(
  inputs: dict[int, np.ndarray], kernels: list[np.ndarray], dtype: str
) -> Waited:
  """A call multiplies every kernel, stored (O, I), by the input of its size."""
  put = lambda x: torch.tensor(x).to(torch_device(), getattr(torch, dtype))
  xs = {size: put(x) for size, x in inputs.items()}
  ws = [put(w_IO.T) for w_IO in kernels]

  def multiply(w_OI: Any) -> Any:
    return torch.nn.functional.linear(xs[w_OI.shape[1]], w_OI)[:1, :1].clone()

  return Waited(lambda: [multiply(w_OI) for w_OI in ws], _wait)


@dataclasses.dataclass
class TorchStep:
  """A training step in torch: a call takes it and gives the loss.

  Attributes:
    model: adapted by peft, or what else gives a result with a `loss`.
    learner: the optimiser.
    inputs: of the model, labels included.
  """

  model: Any
  learner: Any
  inputs: dict[str, Any]

  def dispatch(self) -> Any:
    """Starts a step; its loss."""
    loss = self.model(**self.inputs).loss
    loss.backward()
    trained = [p for group in self.learner.param_groups for p in group['params']]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    self.learner.step()
    self.learner.zero_grad()
    return loss.detach()

  def compiled(self) -> 'TorchStep':
    """The same with the passes of the model compiled; the optimiser is not."""
    return dataclasses.replace(self, model=torch.compile(self.model))

  def wait(self, loss: Any) -> None:
    """Returns when the step of a loss is done."""
    _wait(loss)

  def __call__(self) -> float:
    """Takes a step; its loss."""
    return self.dispatch().item()


def peft_step(model: Any, pretrained: Pretrained, rank: int, batch: Batch) -> TorchStep:
  """A LoRA step with AdamW on the same modules, where the model lies.

  A model in bfloat16 computes in it, without autocast; PEFT keeps the components, and
  the products with them, in float32.
  """
  import peft

  names = choose(
    pretrained.model, Targets(), pretrained.targets, pretrained.head_modules
  )
  config = peft.LoraConfig(
    r=rank,
    target_modules=list(names),
    modules_to_save=list(pretrained.head_modules),
    task_type='SEQ_CLS',
  )
  adapted = peft.get_peft_model(model, config)
  trained = [p for p in adapted.parameters() if p.requires_grad]
  learner = torch.optim.AdamW(trained, lr=1e-4)
  labels = torch.tensor(batch['label_B']).long().to(torch_device())
  adapted.train()
  return TorchStep(adapted, learner, _torch_inputs(batch) | {'labels': labels})


def _torch_inputs(batch: Batch) -> dict[str, Any]:
  names = {'input_ids': 'ids_BL', 'attention_mask': 'mask_BL'}
  return {
    name: torch.tensor(batch[ours]).long().to(torch_device())
    for name, ours in names.items()
  }


def _wait(result: Any) -> None:
  if torch.cuda.is_available():
    torch.cuda.synchronize()
