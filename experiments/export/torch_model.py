"""Rows of a task's splits as torch's inputs, and a model's logits of them."""

import numpy as np
import torch

from adapad_jax.tasks import Split

_NAMES = {
  'ids_BL': 'input_ids',
  'mask_BL': 'attention_mask',
  'types_BL': 'token_type_ids',
}


def tensors_of(split: Split, rows: np.ndarray) -> dict[str, torch.Tensor]:
  """Some rows without their labels, cut to the longest of them."""
  length = int(split.columns['mask_BL'][rows].sum(1).max())
  return {
    theirs: torch.tensor(split.columns[ours][rows][:, :length]).long()
    for ours, theirs in _NAMES.items()
    if ours in split.columns
  }


def logits_of(model: torch.nn.Module, split: Split) -> np.ndarray:
  """Logits of every row."""
  model.eval()
  with torch.no_grad():
    starts = np.arange(0, len(split), 64)
    parts = [np.arange(start, min(start + 64, len(split))) for start in starts]
    return np.concatenate(
      [model(**tensors_of(split, part)).logits.numpy() for part in parts]
    )
