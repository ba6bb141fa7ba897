"""What the JSON files of a finished run hold, for those who read them back.

See `files.require_shape`. Numbers that were not finite are null there.
"""

from typing import Any

_NUMBER = int | float | None
_METRICS = {'step': int, 'metrics': {str: _NUMBER}}
RESULT: dict[str, Any] = {
  'task': str,
  'method': str,
  'model': str,
  'metric': str,
  'best': _METRICS,
  'last': _METRICS,
  'baseline': {'name': str, 'metrics': {str: _NUMBER}},
  'prefixes': [_NUMBER],
  'ranks': {str: int},
  'rank_total': int,
  'budget': int,
  'grants': [{'round': int, 'module': str, 'component': int, 'score': _NUMBER}],
  'adapter_parameters': int,
  'head_parameters': int,
  'rounds': int,
  'seconds': float,
  'seconds_to_first_step': float,
  'traces': int,
  'devices': [str],
  'mesh': {str: int},
  'versions': {str: str},
  'checkpoints': str,
}
# Beside a saved state; a run that was imported has spent no time in phases.
META: dict[str, Any] = {
  'best': dict | None,
  'last': dict | None,
  'stale': int,
  'seconds': float,
  'first_step': float,
}
SPECTRA: dict[Any, Any] = {
  str: {
    'shape': [int],
    'norms': [_NUMBER],
    'singular_values': [_NUMBER],
    'angles': [[_NUMBER]],
  }
}
RANKS: dict[str, Any] = {
  'step': int,
  'rank': [int],
  'importance': list | None,
  'uncertainty': list | None,
}
SAMPLES: dict[str, Any] = {
  'step': int,
  'samples': [{'prompt': str, 'reference': str, 'answer': str}],
}
SCALARS: dict[Any, Any] = {str: _NUMBER}
REGRESSION: dict[str, Any] = {
  'task': str,
  'method': str,
  'rank': int,
  'active': int,
  'examples': int,
  'inputs': int,
  'outputs': int,
  'rounds': int,
  'local_steps': int,
  'seconds': float,
  'train_error': _NUMBER,
  'train_error_exact': _NUMBER,
  'test_error': _NUMBER,
  'test_error_of_prefixes': [_NUMBER],
  'versions': {str: str},
}
