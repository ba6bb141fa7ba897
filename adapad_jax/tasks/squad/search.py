"""The best spans of every window, exactly, without trying all pairs in Python."""

import numpy as np

_CHUNK = 1024


def best_spans(
  start_NL: np.ndarray,
  end_NL: np.ndarray,
  first_N: np.ndarray,
  size_N: np.ndarray,
  longest: int,
  k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """The k spans with the highest start + end logit, best first.

  A span lies in its row's columns first_N ... first_N + size_N - 1, and its end is
  0 ... longest - 1 columns after its start. Of equal scores the earlier start, then
  the earlier end, comes first.

  Args:
    start_NL: start logits.
    end_NL: end logits; logits that are not finite are never chosen.
    first_N: column of the first passage token.
    size_N: number of passage tokens.
    longest: most tokens of a span.
    k: number of spans.

  Returns:
    score_NK in float32, -inf where a row has fewer spans, and the columns start_NK
    and end_NK.
  """
  pieces = [slice(i, i + _CHUNK) for i in range(0, max(len(start_NL), 1), _CHUNK)]
  parts = [
    _best_spans(start_NL[i], end_NL[i], first_N[i], size_N[i], longest, k)
    for i in pieces
  ]
  score_NK, start_NK, end_NK = (np.concatenate(x) for x in zip(*parts, strict=True))
  return score_NK, start_NK, end_NK


def _best_spans(
  start_NL: np.ndarray,
  end_NL: np.ndarray,
  first_N: np.ndarray,
  size_N: np.ndarray,
  longest: int,
  k: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  rows, length = start_NL.shape
  place_L = np.arange(length)
  inside_NL = (place_L >= first_N[:, None]) & (place_L < (first_N + size_N)[:, None])
  start_NL = np.where(inside_NL & np.isfinite(start_NL), start_NL, -np.inf)
  end_NL = np.where(inside_NL & np.isfinite(end_NL), end_NL, -np.inf)
  padded = np.pad(end_NL, ((0, 0), (0, longest - 1)), constant_values=-np.inf)
  reach_NL = end_NL.copy()
  for step in range(1, longest):
    np.maximum(reach_NL, padded[:, step : step + length], out=reach_NL)
  # A start that is not among the k best by its best span has no span among the k best:
  # each of those k has one that is better, or as good and earlier.
  kept_NS = _order(start_NL + reach_NL)[:, :k]
  row_N1 = np.arange(rows)[:, None]
  ends_NSA = np.lib.stride_tricks.sliding_window_view(padded, longest, axis=1)
  scores_NSA = start_NL[row_N1, kept_NS][:, :, None] + ends_NSA[row_N1, kept_NS]
  # In order of (start, end), so that ties fall as promised.
  by_place = np.argsort(kept_NS, axis=1)
  kept_NS = np.take_along_axis(kept_NS, by_place, axis=1)
  scores_NSA = scores_NSA[row_N1, by_place]
  flat = scores_NSA.reshape(rows, kept_NS.shape[1] * longest)
  best_NK = _order(flat)[:, :k]
  score_NK = np.take_along_axis(flat, best_NK, axis=1).astype(np.float32)
  start_NK = np.take_along_axis(kept_NS, best_NK // longest, axis=1)
  return score_NK, start_NK, start_NK + best_NK % longest


def _order(score_NX: np.ndarray) -> np.ndarray:
  """Columns by falling score, equal ones from left to right."""
  return np.argsort(-score_NX, axis=1, kind='stable')
