"""Operations that a model needs at least, and the share of a card's peak they take."""

from collections.abc import Mapping

from experiments.speed.training_steps import CONFIGS

# Dense bfloat16 products a second, from NVIDIA's data sheets (SXM boards).
PEAK_FLOPS = {'H100': 989e12, 'H200': 989e12, 'A100': 312e12}


def forward_flops(
  model: str, rows: int, length: int, shapes: Mapping[str, tuple[int, int]]
) -> float:
  """Floating-point operations of a forward pass.

  Twice the entries of all adapted matrices for each token, and the two products of
  softmax attention, 4 L N H a token and layer. Low-rank terms, DeBERTa's relative
  positions, embeddings and the head are not counted.

  Args:
    model: a name of CONFIGS.
    rows, length: of the batch.
    shapes: (inputs, outputs) of the adapted matrices, all those of the layers.
  """
  config = CONFIGS[model]
  heads = config['num_attention_heads']
  size = config.get('head_dim') or config['hidden_size'] // heads
  linear = sum(i * o for i, o in shapes.values())
  attended = config['num_hidden_layers'] * length * heads * size
  return rows * length * (2.0 * linear + 4.0 * attended)


def step_flops(
  model: str, rows: int, length: int, shapes: Mapping[str, tuple[int, int]]
) -> float:
  """Floating-point operations of a training step of a frozen model.

  The forward pass, and as much again backward to the activations through frozen
  matrices, which have no gradient of their own; attention has twice its forward
  products backward.
  """
  whole = forward_flops(model, rows, length, shapes)
  attended = forward_flops(model, rows, length, {})
  return 2.0 * whole + attended


def utilisation(flops_per_second: float, device: str, dtype: str) -> float | None:
  """Share of the device's peak in bfloat16; None where the peak is not known."""
  peak = next((p for name, p in PEAK_FLOPS.items() if name in device), None)
  if peak is None or dtype != 'bfloat16':
    return None
  return flops_per_second / peak
