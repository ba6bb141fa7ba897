"""Memory and time of the loss of instruction tuning beside the plain form.

  python -m experiments.speed.sft_loss

Both forms give the sum of the cross-entropies of learned tokens and its gradient by the
states; the head is frozen, as in every adapter. `plain` has the logits (B, L, V) of all
positions; `chunks` is `adapad_jax.tasks.sft.loss`. Memory is what XLA plans beside
arguments and results; times alternate in one process, the figure is the median ratio.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.models.unembedding import Unembedding
from adapad_jax.tasks.sft.loss import _losses, chunk_size
from experiments.harness import Experiment, Run, main
from experiments.results import Row, row
from experiments.timing import Waited, side_by_side

# (vocabulary, features, rows, positions): Qwen3-0.6B's and SmolLM2's heads.
MEMORY = ((151936, 1024, 8, 1024), (151936, 1024, 2, 512), (49152, 576, 8, 512))
TIME = ((49152, 576, 2, 256),)
SHARES = (1.0, 0.5, 0.1)


@dataclasses.dataclass(frozen=True)
class Options:
  """Timed turns of either form."""

  repeats: int = 7


def forms(table: Any) -> dict[str, Callable[..., jax.Array]]:
  """Both forms of the summed loss of states, targets and a mask."""
  head = Unembedding(table, tied=True, dtype=table.dtype)

  def plain(states: Any, target: Any, learned: Any) -> jax.Array:
    loss = optax.softmax_cross_entropy_with_integer_labels(head(states), target)
    return jnp.sum(jnp.where(learned, loss, 0.0))

  def chunks(states: Any, target: Any, learned: Any) -> jax.Array:
    flat = states.reshape(-1, states.shape[-1]), target.ravel(), learned.ravel()
    chunk = chunk_size(head.vocabulary, target.size)
    return jnp.sum(_losses(chunk, head, *flat))

  return {'plain': plain, 'chunks': chunks}


def compiled(name: str, table: Any, rows: int, positions: int) -> Any:
  """The loss and its gradient by the states."""
  grad = lambda table, *given: jax.value_and_grad(forms(table)[name])(*given)
  shapes = (
    jax.ShapeDtypeStruct((rows, positions, table.shape[1]), jnp.float32),
    jax.ShapeDtypeStruct((rows, positions), jnp.int32),
    jax.ShapeDtypeStruct((rows, positions), jnp.bool_),
  )
  return jax.jit(grad).lower(table, *shapes).compile()


def memory() -> Iterator[Row]:
  """Megabytes that each form needs beside arguments and results."""
  for vocabulary, features, rows, positions in MEMORY:
    table = jax.ShapeDtypeStruct((vocabulary, features), jnp.float32)
    for name in ('plain', 'chunks'):
      found = compiled(name, table, rows, positions).memory_analysis()
      mega = round(found.temp_size_in_bytes / 2**20, 1)
      about = {'vocabulary': vocabulary, 'features': features}
      about |= {'rows': rows, 'positions': positions}
      yield row(f'memory of {name}', mega, 'MiB', **about)


def times(repeats: int) -> Iterator[Row]:
  """Milliseconds of each form, and their ratio, by the share of learned tokens."""
  rng = np.random.default_rng(0)
  for vocabulary, features, rows, positions in TIME:
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    table, states = 0.05 * draw(vocabulary, features), draw(rows, positions, features)
    target = jnp.asarray(rng.integers(0, vocabulary, (rows, positions)), jnp.int32)
    both = {n: compiled(n, table, rows, positions) for n in ('plain', 'chunks')}
    about = {'vocabulary': vocabulary, 'features': features, 'repeats': repeats}
    about |= {'rows': rows, 'positions': positions}
    for share in SHARES:
      learned = jnp.asarray(rng.random((rows, positions)) < share)
      given = table, states, target, learned
      check(both['plain'](*given), both['chunks'](*given))
      call = lambda name, both=both, given=given: Waited(
        functools.partial(both[name], *given), jax.block_until_ready
      )
      found = side_by_side(call('chunks'), call('plain'), repeats)
      plain_ms = round(1e3 * float(found['theirs']), 1)
      about |= {'share': share, 'plain_ms': plain_ms}
      about |= {name: round(float(found[name]), 3) for name in ('least', 'most')}
      yield row('chunks over plain', round(float(found['ratio']), 3), '', **about)


def check(plain: Any, ours: Any) -> None:
  """Both are the same numbers."""
  for one, other in zip(plain, ours, strict=True):
    np.testing.assert_allclose(
      np.asarray(one).ravel(), np.asarray(other).ravel(), rtol=1e-4, atol=1e-5
    )


def measure(run: Run, options: Options) -> Iterator[Row]:
  """Memory, then time."""
  yield from memory()
  yield from times(options.repeats)


def key(run: Run, options: Options) -> dict[str, Any]:
  """The loss is timed once with so many turns."""
  return {'figure': 'chunks over plain', 'repeats': options.repeats}


EXPERIMENT = Experiment('speed.sft_loss', Options(), measure, key=key)

if __name__ == '__main__':
  main(EXPERIMENT)
