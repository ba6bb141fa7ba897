"""The Hugging Face hub: what is asked of it, and what may go wrong.

Nothing else in this project talks to the hub or knows the exceptions of its library.
"""

from adapad_jax.hub.faults import HubError
from adapad_jax.hub.push import check_token, push
from adapad_jax.hub.repository import Repository, is_id, parse
from adapad_jax.hub.snapshot import Snapshot, take

__all__ = [
  'HubError',
  'Repository',
  'Snapshot',
  'check_token',
  'is_id',
  'parse',
  'push',
  'take',
]
