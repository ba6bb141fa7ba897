"""Parallel deflation as a plain loop over workers, targets formed in full."""

import numpy as np


def unit(x):
  norm = np.linalg.norm(x)
  return x / norm if norm else x


def alternating_step(x_NI, target_NO, a_I, b_O):
  """Best b for a, scaled to length one, then best a for b."""
  b_O = unit(target_NO.T @ (x_NI @ a_I))
  return np.linalg.pinv(x_NI) @ (target_NO @ b_O), b_O


def gradient_step(rate):
  def step(x_NI, target_NO, a_I, b_O):
    error_NO = np.outer(x_NI @ a_I, b_O) - target_NO
    return a_I - rate * x_NI.T @ (error_NO @ b_O), b_O - rate * error_NO.T @ (
      x_NI @ a_I
    )

  return step


def deflate(
  x_NI,
  y_NO,
  start_RI,
  step,
  *,
  rounds,
  local_steps,
  staggered,
  advance,
  late_LR=None,
  absent_LR=None,
):
  """All rounds; returns the broadcasts of every round as lists of (a, b)."""
  rank = len(start_RI)
  own = [(a_I.copy(), np.zeros(y_NO.shape[1])) for a_I in start_RI]
  sent = []  # per round: the terms of those who broadcast, None for the others
  for l in range(rounds):
    active = l + 1 if staggered else rank
    fresh = list(own)
    for k in range(rank):
      if (k >= active and not advance) or (absent_LR is not None and absent_LR[l, k]):
        continue
      version = l - 1 - (0 if late_LR is None else late_LR[l, k])
      target_NO = y_NO.copy()
      for j in range(k):
        if version >= 0 and sent[version][j] is not None:
          a_I, b_O = sent[version][j]
          target_NO -= np.outer(x_NI @ a_I, b_O)
      for _ in range(local_steps):
        fresh[k] = step(x_NI, target_NO, *fresh[k])
    own = fresh
    sent.append([own[k] if k < active else None for k in range(rank)])
  return sent
