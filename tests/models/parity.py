"""One torch model and ours from the same files: outputs and gradients side by side."""

import dataclasses
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hypothesis import strategies as st

from adapad_jax.models import Head, Pretrained, family_of, load, weights

ATOL = 1e-4


@jax.jit
def run(model: nnx.Module, batch: Any, keys_B: Any = None) -> Any:
  """A model's output, compiled."""
  return model(batch, keys_B)


@dataclasses.dataclass(frozen=True)
class Pair:
  """A torch model and what `load` makes of its saved files."""

  reference: Any
  ours: Pretrained


def make_pair(torch_class: Any, config: Any, head: Head, seed: int, **options) -> Pair:
  """Draws a torch model, saves it and loads it here; its norms are not all ones."""
  import torch

  torch.manual_seed(seed)
  # Attention spelled out, so that dropout and masks mean the same everywhere.
  config._attn_implementation = 'eager'
  reference = torch_class(config).eval()
  with torch.no_grad():
    for parameter in reference.parameters():
      parameter += 0.05 * torch.randn_like(parameter)
  with tempfile.TemporaryDirectory() as folder:
    reference.save_pretrained(folder)
    ours = load(folder, head, **options)
  return Pair(reference, ours)


@st.composite
def shapes(draw, most: int = 40) -> tuple[list[int], int]:
  """Lengths of the rows of a batch, and their width.

  Hypothesis tries the smallest draws first: here those are rows without padding.
  """
  width = most - draw(st.integers(0, most - 1))
  shorter = st.integers(0, width - 1)
  return [width - n for n in draw(st.lists(shorter, min_size=1, max_size=3))], width


def draw_batch(
  seed: int,
  lengths: list[int],
  width: int,
  vocab: int,
  left: bool = False,
  pad: int = 0,
) -> dict[str, np.ndarray]:
  """Distinct tokens from 3 up, `lengths` of them per row, padded with `pad`."""
  rng = np.random.default_rng(seed)
  shape = (len(lengths), width)
  ids_BL = rng.choice(np.arange(3, vocab), shape, replace=False).astype(np.int32)
  place_L = np.arange(width)
  real = [(width - n <= place_L) if left else (place_L < n) for n in lengths]
  mask_BL = np.array(real).astype(np.int32)
  return {'ids_BL': np.where(mask_BL, ids_BL, pad), 'mask_BL': mask_BL}


def outputs_of_torch(model: Any, batch: dict[str, np.ndarray]) -> dict[str, Any]:
  """Logits by our names, with a graph behind them."""
  import torch

  inputs = {'input_ids': batch['ids_BL'], 'attention_mask': batch['mask_BL']}
  if 'types_BL' in batch:
    inputs['token_type_ids'] = batch['types_BL']
  result = model(**{name: torch.tensor(x).long() for name, x in inputs.items()})
  if hasattr(result, 'start_logits'):
    return {'start_BL': result.start_logits, 'end_BL': result.end_logits}
  return {'logits': result.logits}


def generate_of_torch(model: Any, batch: dict[str, np.ndarray], budget: Any) -> Any:
  """transformers' greedy search; it pads prompts on the left only."""
  import torch

  inputs = {'input_ids': batch['ids_BL'], 'attention_mask': batch['mask_BL']}
  with torch.no_grad():
    out = model.generate(
      **{name: torch.tensor(x).long() for name, x in inputs.items()},
      max_new_tokens=budget.tokens,
      do_sample=False,
      eos_token_id=list(budget.stop_ids) or None,
      pad_token_id=budget.pad_id,
    )
  new = out[:, batch['ids_BL'].shape[1] :].numpy()
  missing = budget.tokens - new.shape[1]
  return np.pad(new, ((0, 0), (0, missing)), constant_values=budget.pad_id)


def outputs_of_ours(model: nnx.Module, batch: Any) -> dict[str, jax.Array]:
  """Logits of our model, in a dict whatever the head."""
  result = model(batch)
  return result if isinstance(result, dict) else {'logits': result}


def weights_for(outputs: dict[str, Any], mask_BL: np.ndarray) -> dict[str, np.ndarray]:
  """Random cotangents of the outputs, zero at padding positions."""
  rng = np.random.default_rng(7)
  draw = {}
  for name, x in outputs.items():
    draw[name] = rng.standard_normal(x.shape).astype(np.float32)
    if x.shape[:2] == mask_BL.shape and name != 'logits' or x.ndim == 3:
      draw[name] *= mask_BL.reshape(mask_BL.shape + (1,) * (x.ndim - 2))
  return draw


def assert_same(pair: Pair, batch: dict[str, np.ndarray]) -> None:
  """Outputs at tokens, and gradients of every parameter, agree to `ATOL`."""
  outputs, gradients = gaps(pair, batch)
  assert outputs <= ATOL, f'outputs differ by {outputs}'
  far = {name: gap for name, gap in gradients.items() if not gap <= ATOL}
  assert not far, f'gradients differ: {far}'


def gaps(pair: Pair, batch: dict[str, np.ndarray]) -> tuple[float, dict[str, float]]:
  """Largest differences from torch: of outputs at tokens, and of gradients by name.

  A token stands in one place at most, so its row of the embedding table's gradient is
  the gradient with respect to that embedded input. Gradients are taken relative to
  their largest element where that is above one.
  """
  theirs = outputs_of_torch(pair.reference, batch)
  cotangents = weights_for(theirs, batch['mask_BL'])
  graph, state = nnx.split(pair.ours.model)

  def total(state: Any) -> Any:
    outputs = outputs_of_ours(nnx.merge(graph, state), batch)
    products = jax.tree.map(lambda x, w: jnp.sum(x * w), outputs, cotangents)
    return sum(jax.tree.leaves(products)), outputs

  grads, ours = jax.jit(jax.grad(total, has_aux=True))(state)
  outputs = 0.0
  for name, cotangent in cotangents.items():
    counted = cotangent != 0
    reference = theirs[name].detach().numpy()
    difference = np.abs(np.asarray(ours[name])[counted] - reference[counted])
    outputs = np.maximum(outputs, difference.max())  # NaN stays NaN
  import torch

  sum((x * torch.tensor(cotangents[n])).sum() for n, x in theirs.items()).backward()
  return float(outputs), _gradient_gaps(pair, dict(nnx.to_flat_state(grads)))


def _gradient_gaps(pair: Pair, grads: dict[tuple, Any]) -> dict[str, float]:
  reference = dict(pair.reference.named_parameters())
  found, absent = {}, weights.matcher(family_of(pair.ours.family).absent)
  for slot in weights.slots_of(pair.ours.model):
    ours = np.asarray(grads[slot.path][...])
    stacked = (
      ours if len(slot.names) > 1 or weights.stack.STACKED in slot.path else [ours]
    )
    for name, own in zip(slot.names, stacked, strict=True):
      own = own.T if slot.kind == 'kernel' else own
      if absent(name):
        assert not own.any()
        continue
      theirs = reference[name].grad
      theirs = np.zeros(own.shape) if theirs is None else theirs.numpy().copy()
      if slot.kind == 'embedding':
        table = pair.reference.get_submodule(name.removesuffix('.weight'))
        if table.padding_idx is not None:  # torch gives that row no gradient
          own = own.copy()
          own[table.padding_idx] = theirs[table.padding_idx] = 0
      scale = max(1.0, float(np.abs(theirs).max()))
      found[name] = float(np.abs(own - theirs).max() / scale)
  assert len(found) > 5
  return found
