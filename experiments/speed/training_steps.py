"""Forward passes and training steps of models of released sizes, to be timed.

They train rank-one components or LoRA of all linear layers of the backbone and the
head of a classifier, with the model's own dropout; `torch_steps` does so in torch.
"""

import dataclasses
import functools
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapad_jax.adapters import (
  Attachment,
  Targets,
  adapted_problem,
  choose,
  split_model,
)
from adapad_jax.methods import Method, Problem
from adapad_jax.models import Head, Pretrained, load, outline
from adapad_jax.models.products import dense_dot_general
from adapad_jax.optim import Optimizer
from adapad_jax.sharding import make_mesh, put
from experiments.timing import Waited

Batch = dict[str, np.ndarray]
# Every row deflates: what is timed here has no joint rows.
DEFLATING = dict(joint=0.0, polish=0.0, head_rows='last')
CLASSIFIER = Head('classification')
_DEBERTA_V3 = dict(
  model_type='deberta-v2',
  vocab_size=128100,
  max_position_embeddings=512,
  type_vocab_size=0,
  relative_attention=True,
  position_buckets=256,
  max_relative_positions=-1,
  pos_att_type='p2c|c2p',
  share_att_key=True,
  norm_rel_ebd='layer_norm',
  position_biased_input=False,
  pad_token_id=0,
)


def _encoder(hidden: int, layers: int, heads: int, inner: int) -> dict[str, int]:
  """The sizes of BERT and DeBERTa as config.json calls them."""
  return dict(
    hidden_size=hidden,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    intermediate_size=inner,
  )


def _decoder(
  hidden: int, layers: int, heads: int, inner: int, groups: int, head: int, theta: float
) -> dict[str, Any]:
  """The sizes of Llama and Qwen3: `groups` key-value heads of `head` features."""
  return _encoder(hidden, layers, heads, inner) | dict(
    num_key_value_heads=groups,
    head_dim=head,
    rope_parameters={'rope_type': 'default', 'rope_theta': theta},
    tie_word_embeddings=True,
    pad_token_id=0,
  )


# config.json of the released models, as far as it decides what is computed.
CONFIGS: dict[str, dict[str, Any]] = {
  'MiniLM': dict(
    model_type='bert',
    vocab_size=30522,
    max_position_embeddings=512,
    type_vocab_size=2,
    pad_token_id=0,
    **_encoder(384, 6, 12, 1536),
  ),
  'DeBERTa-v3-xsmall': _DEBERTA_V3 | _encoder(384, 12, 6, 1536),
  'DeBERTa-v3-base': _DEBERTA_V3 | _encoder(768, 12, 12, 3072),
  'SmolLM2-135M': dict(
    model_type='llama',
    vocab_size=49152,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    **_decoder(576, 30, 9, 1536, groups=3, head=64, theta=1e5),
  ),
  'Qwen3-0.6B': dict(
    model_type='qwen3',
    vocab_size=151936,
    max_position_embeddings=40960,
    rms_norm_eps=1e-6,
    **_decoder(1024, 28, 16, 3072, groups=8, head=128, theta=1e6),
  ),
}
# The same families in next to no time, to try what is timed.
CONFIGS['DeBERTa-v3-tiny'] = _DEBERTA_V3 | _encoder(32, 2, 2, 64) | {'vocab_size': 512}
CONFIGS['Qwen3-tiny'] = CONFIGS['Qwen3-0.6B'] | dict(
  vocab_size=512, **_decoder(32, 2, 4, 64, groups=2, head=16, theta=1e6)
)


def our_model(
  name: str, folder: pathlib.Path, head: Head = CLASSIFIER, **options: Any
) -> Pretrained:
  """A model of a released size with random weights; `folder` gets its config.json."""
  (folder / 'config.json').write_text(json.dumps(CONFIGS[name]))
  return load(str(folder), head, random_weights=True, **options)


def our_outline(name: str, head: Head = CLASSIFIER, **options: Any) -> Pretrained:
  """The same with abstract arrays."""
  with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / 'config.json').write_text(json.dumps(CONFIGS[name]))
    return outline(folder, head, **options)


def draw_batch(name: str, rows: int, length: int) -> Batch:
  """Random tokens without padding, and labels."""
  rng = np.random.default_rng(0)
  shape = (rows, length)
  return {
    'ids_BL': rng.integers(5, CONFIGS[name]['vocab_size'], shape, np.int32),
    'mask_BL': np.ones(shape, np.int32),
    'label_B': rng.integers(0, 2, rows, np.int32),
  }


def our_forward(pretrained: Pretrained, batch: Batch) -> Waited:
  """A call runs the model."""
  run = jax.jit(lambda model, batch: model(batch))
  inputs = jax.device_put({name: batch[name] for name in ('ids_BL', 'mask_BL')})
  return Waited(lambda: run(pretrained.model, inputs), jax.block_until_ready)


def our_products(
  inputs: dict[int, np.ndarray], kernels: list[np.ndarray], dtype: str
) -> Waited:
  """A call multiplies every kernel (I, O) by the input (tokens, I) of its size.

  It keeps a corner of each product, so that memory is used again as in a model.
  """
  corner = lambda y: jax.lax.optimization_barrier(y)[:1, :1]
  dot = dense_dot_general(dtype, jax.default_backend())
  multiply = lambda x, w_IO: dot(x, w_IO, (((1,), (0,)), ((), ())))
  run = jax.jit(
    lambda inputs, kernels: [
      corner(multiply(inputs[len(w_IO)], w_IO)) for w_IO in kernels
    ]
  )
  cast = lambda x: jnp.asarray(x, dtype)
  on_device = jax.tree.map(cast, inputs), jax.tree.map(cast, kernels)
  return Waited(lambda: run(*on_device), jax.block_until_ready)


@dataclasses.dataclass
class OurStep:
  """A training step of a method: a call takes it and gives the loss."""

  run: Callable[..., tuple[Any, dict[str, jax.Array]]]
  state: Any
  params: Any
  inputs: Any
  mesh: jax.sharding.Mesh

  def dispatch(self) -> jax.Array:
    """Starts a step; its loss."""
    with jax.set_mesh(self.mesh):
      self.state, metrics = self.run(self.state, self.params, self.inputs)
    return metrics['loss']

  def wait(self, loss: jax.Array) -> None:
    """Returns when the step of a loss is done."""
    jax.block_until_ready((loss, self.state))

  def __call__(self) -> float:
    """Takes a step; its loss."""
    return float(self.dispatch())


def grown(state: Any, capacity: int) -> Any:
  """A fresh state of adapad in which every module has its most components."""
  rank_M = np.full(state.ranks.rank_M.shape, capacity, np.int32)
  ranks = dataclasses.replace(state.ranks, rank_M=rank_M)
  return dataclasses.replace(state, ranks=ranks)


def our_step(
  pretrained: Pretrained,
  bind: Callable[[Problem], Method],
  batch: Batch,
  prepare: Callable[[Any], Any] = lambda state: state,
  sizes: tuple[int, int] = (1, 1),
) -> OurStep:
  """A training step of a method on the batch.

  Args:
    pretrained: the model; a 'lm' head learns to predict the next token.
    bind: problem -> method.
    batch: from `draw_batch`.
    prepare: changes the first state.
    sizes: of the mesh's axes `worker` and `data`.
  """
  _, params, head = split_model(pretrained.model, pretrained.head_modules)
  problem = our_problem(pretrained, len(batch['ids_BL']))
  method, mesh = bind(problem), make_mesh(*sizes)
  rows = method.rows(mesh)
  with jax.set_mesh(mesh):
    params = put(params)
    inputs = put({name: x[None, rows.order_B] for name, x in batch.items()}, rows.spec)
    state = method.place(prepare(jax.jit(method.init)(head)), mesh)
    return OurStep(method.live_rounds(mesh), state, params, inputs, mesh)


def our_problem(pretrained: Pretrained, rows: int) -> Problem:
  """All linear layers and the head, trained on batches of so many rows."""
  model = pretrained.model
  return adapted_problem(
    Attachment.of(model),
    model,
    choose(model, Targets(), pretrained.targets, pretrained.head_modules),
    functools.partial(row_loss, pretrained.head.kind),
    optimizer=Optimizer(learning_rate=1e-4),
    head_optimizer=Optimizer(learning_rate=1e-4),
    steps=1000,
    batch=rows,
  )


def row_loss(
  kind: str, model: Any, batch: dict[str, jax.Array], keys_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Cross-entropy of classes, or of the next token for an 'lm' head."""
  logits = model(batch, keys_B)
  entropy = optax.softmax_cross_entropy_with_integer_labels
  if kind == 'lm':
    loss_B = entropy(logits[:, :-1], batch['ids_BL'][:, 1:]).mean(1)
  else:
    loss_B = entropy(logits, batch['label_B'])
  return loss_B, jnp.ones_like(loss_B)
