"""A small adapter from a large update of SmolLM2-135M, re-ranked and by SVD.

  python -m experiments.sft.extraction --model=MODEL --data=FOLDER --teachers=FOLDER2
  python -m experiments.sft.extraction --table

Two teachers are trained on GSM8K (`experiments.sft.comparison`: its rows and batches):
every parameter of the model, and LoRA of rank 32. Adapters of the size of a LoRA of
rank 1, 2, ... are taken from each without more training, by re-ranking on rows of the
training file and by the singular values of the updates, with one budget shared over
modules and with equal ranks. They are scored on rows of the test file: the loss, and
the Kullback-Leibler divergence from the teacher over the tokens that are learned.
FOLDER2 keeps the teachers, so that they are trained once.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import adapad_jax as ax
from adapad_jax import sharding
from adapad_jax.adapters import merge, split_model
from adapad_jax.compilation import keep_compiled
from adapad_jax.lowrank import Adapter, LowRank
from adapad_jax.reranking import Update, fit, from_adapter, from_tuned, truncate
from adapad_jax.training import FinetuneConfig
from adapad_jax.training.batches import padded, trimmed
from experiments import timing
from experiments.export.rerank import candidates
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.sft import comparison
from experiments.tables import markdown

TEACHERS: dict[str, dict[str, Any]] = {
  'full': {'method': 'full'},
  'lora-32': {'method': 'lora', 'lora.rank': 32},
}
_RATES = {'full': 1e-4, 'lora-32': 1e-3}
# Rows of a scored batch.
_BATCH = 8


@dataclasses.dataclass(frozen=True)
class Options:
  """What is extracted from what.

  Attributes:
    model, data: see `sft.comparison`.
    teachers: folder of the teachers' runs.
    kinds: of teachers.
    steps, batch: of their runs.
    sizes: ranks of the LoRAs whose parameters an adapter may have.
    most: components of a module.
    text: rows of the training file that re-ranking sees.
    rows: of the test file, for scores.
  """

  model: str = ''
  data: str = ''
  teachers: str = ''
  kinds: tuple[Literal[*TEACHERS], ...] = tuple(TEACHERS)
  steps: int = 40
  batch: int = 8
  sizes: tuple[int, ...] = (1, 2, 4)
  most: int = 16
  text: int = 128
  rows: int = 96


@dataclasses.dataclass(frozen=True)
class Case:
  """One teacher, and all that is taken from it."""

  kind: str
  steps: int
  batch: int
  most: int
  text: int
  rows: int


def cases(run: Run) -> Iterator[Case]:
  """Teacher by teacher."""
  o = run.options
  for kind in o.kinds:
    yield Case(kind, o.steps, o.batch, o.most, o.text, o.rows)


def config_of(options: Options, case: Case) -> FinetuneConfig:
  """The teacher's run, in float32: what full fine-tuning adds is small."""
  where = comparison.Options(model=options.model, data=options.data, answers=0)
  sizes = case.steps, case.batch, where.rows, 'float32'
  plain = comparison.Case('run', 'gsm8k', 'lora', 0, _RATES[case.kind], *sizes)
  alone = {f'mesh.{axis}': 1 for axis in ('worker', 'data', 'model')}
  return comparison.changed_config(where, plain, TEACHERS[case.kind] | alone)


def measure(run: Run, case: Case) -> Iterator[Row]:
  """Teacher, base and the whole update of the adapted layers; then every adapter."""
  keep_compiled()
  o, workdir = run.options, pathlib.Path(run.options.teachers) / case.kind
  ax.train(config_of(o, case), workdir)
  saved = ax.restore(workdir)
  about = dataclasses.asdict(case) | {'processor': timing.processor()}
  some = lambda split, rows: {k: v[:rows] for k, v in split.columns.items()}
  splits = saved.plan.task.splits
  base = saved.session.pretrained.model
  with jax.set_mesh(saved.plan.mesh):
    update = update_of(saved)
    score = Score(update, some(splits['validation'], case.rows))
    whole = _with(base, _whole(update))
    models = {'teacher': update.teacher, 'base': base, 'whole update': whole}
    for name, model in models.items():
      yield _scored(name, score(model), about)
  found, seconds = orders(update, some(splits['train'], case.text), case.most)
  about |= {'peak_gib': round(timing.peak_bytes() / 2**30, 2)}
  for name, value in seconds.items():
    yield row(f'seconds of {name}', round(value, 1), 's', **about)
  # Of LoRA of rank one: a component of every module.
  parameters = sum(sum(delta.shape) for delta in update.deltas.values())
  for size in o.sizes:
    adapters = candidates(found, {}, size * parameters)
    with jax.set_mesh(saved.plan.mesh):
      scores = {name: score(_with(base, one)) for name, one in adapters.items()}
    yield from _beside_svd(adapters, scores, about | {'size': size})


def _beside_svd(
  adapters: Mapping[str, Adapter], scores: Mapping[str, Any], about: Mapping[str, Any]
) -> Iterator[Row]:
  """Adapters of one size, and what is between each and singular values."""
  for name, own in scores.items():
    gap, error = own.gap(scores['svd, shared budget'])
    more = {
      'parameters': adapters[name].parameters(),
      'components': sum(adapters[name].ranks.values()),
      'gap': gap,
      'gap_error': error,
    }
    yield _scored(name, own, about | more)


def update_of(saved: Any) -> Update:
  """What a run did to the model."""
  session, deployed = saved.session, saved.deployed
  if deployed.changes is None:
    return from_adapter(session.pretrained, saved.adapter)
  attachment, _, _ = split_model(session.pretrained.model)
  tuned = attachment(deployed.backbone(session.params), {}, {})
  tuned = dataclasses.replace(session.pretrained, model=tuned)
  return from_tuned(session.pretrained, tuned, list(saved.plan.modules))


def orders(
  update: Update, text: Mapping[str, np.ndarray], most: int
) -> tuple[dict[str, Any], dict[str, float]]:
  """Every module's components in both orders, and the seconds of each."""
  started = time.monotonic()
  ours = fit(update, text, most, sharding.make_mesh(1, jax.device_count()))
  between = time.monotonic()
  theirs = truncate(update.deltas, most)
  seconds = {'re-ranking': between - started, 'svd': time.monotonic() - between}
  return {'re-ranked': ours, 'svd': theirs}, seconds


def _with(base: Any, adapter: Adapter) -> Any:
  """A copy with the adapter merged."""
  return merge(jax.tree.map(lambda x: x, base), adapter)


def _whole(update: Update) -> Adapter:
  """The update itself, as an adapter of full rank."""
  ones = lambda delta_IO: np.eye(len(delta_IO), dtype=np.float32)
  modules = {name: LowRank(ones(one), one) for name, one in update.deltas.items()}
  return Adapter(modules, {})


@dataclasses.dataclass(frozen=True)
class Scored:
  """Sums over the learned tokens of every row.

  Attributes:
    loss_B, divergence_B, tokens_B: nats, nats, and how many.
  """

  loss_B: np.ndarray
  divergence_B: np.ndarray
  tokens_B: np.ndarray

  def mean(self, sum_B: np.ndarray) -> float:
    """Over all tokens."""
    return float(sum_B.sum() / self.tokens_B.sum())

  def gap(self, other: 'Scored') -> tuple[float, float]:
    """The divergence minus another's, and its standard error over paired rows."""
    apart_B = self.divergence_B - other.divergence_B
    mean = self.mean(apart_B)
    left_B = apart_B - mean * self.tokens_B
    rows = len(left_B)
    error = np.sqrt(np.sum(left_B**2) * rows / max(rows - 1, 1))
    return mean, float(error / self.tokens_B.sum())


class Score:
  """Loss of a model and its divergence from the teacher, compiled once.

  Args:
    update: has the teacher.
    columns: of the rows.
  """

  def __init__(self, update: Update, columns: Mapping[str, np.ndarray]) -> None:
    self.attachment, self.teacher, _ = split_model(update.teacher)
    columns = trimmed(columns)
    starts = range(0, len(columns['ids_BL']), _BATCH)
    self.batches = [padded(columns, start, _BATCH) for start in starts]
    self.states = [self._states(self.teacher, batch) for batch in self.batches]

  def __call__(self, model: Any) -> Scored:
    """Of the rows."""
    _, params, _ = split_model(model)
    given = zip(self.batches, self.states, strict=True)
    found = [self._sums(params, self.teacher, *one) for one in given]
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    is_row_B = columns[2] > 0
    return Scored(*(column[is_row_B] for column in columns))

  @functools.partial(jax.jit, static_argnums=0)
  def _states(self, params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    return self.attachment(params, {}, {}).model(batch)[0][:, :-1]

  @functools.partial(jax.jit, static_argnums=0)
  def _sums(
    self, params: Any, teacher: Any, batch: Mapping[str, jax.Array], states_BLD: Any
  ) -> tuple[jax.Array, ...]:
    """Loss, divergence and learned tokens of every row, one row after the other."""
    head = self.attachment(params, {}, {}).unembedding()
    known = self.attachment(teacher, {}, {}).unembedding()

    def of_row(given: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
      own_LD, theirs_LD, target_L, learned_L = given
      log_q, log_p = (
        jax.nn.log_softmax(logits_LV) for logits_LV in (head(own_LD), known(theirs_LD))
      )
      chosen_L = jnp.take_along_axis(log_q, target_L[:, None], axis=1)[:, 0]
      divergence_L = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=1)
      learned_L = learned_L.astype(jnp.float32)
      return (
        -jnp.sum(chosen_L * learned_L),
        jnp.sum(divergence_L * learned_L),
        jnp.sum(learned_L),
      )

    behind = lambda name: batch[name][:, 1:]
    own_BLD = self._states(params, batch)
    given = own_BLD, states_BLD, behind('ids_BL'), behind('learned_BL')
    return jax.lax.map(of_row, given)


def _scored(name: str, scored: Scored, about: Mapping[str, Any]) -> Row:
  """One adapter's row."""
  return row(
    'divergence from the teacher',
    scored.mean(scored.divergence_B),
    'nats a token',
    way=name,
    loss=scored.mean(scored.loss_B),
    **about,
  )


def table(run: Run) -> str:
  """For each teacher what was taken from it, and by how much it is nearer."""
  parts = []
  for kind in TEACHERS:
    like = {'kind': kind, 'figure': 'divergence from the teacher'}
    if rows := matching(run.results.rows(), like):
      parts += [f'{kind}:', _of_teacher(rows)]
  return '\n\n'.join(parts) or 'no such runs yet'


def _of_teacher(rows: list[Row]) -> str:
  lines = []
  for one in rows:
    gap = ''
    if 'gap' in one and one['way'] != 'svd, shared budget':
      gap = f'{one["gap"]:+.4f} ± {one["gap_error"]:.4f}'
    size, parameters = one.get('size', ''), one.get('parameters')
    count = '' if parameters is None else f'{parameters:,}'
    numbers = [f'{one[name]:.4f}' for name in ('loss', 'value')]
    lines.append([str(size), one['way'], count, *numbers, gap])
  head = [
    'size of LoRA of rank',
    'adapter',
    'parameters',
    'held-out loss',
    'divergence',
  ]
  return markdown([*head, 'minus svd, shared budget'], lines)


EXPERIMENT = Experiment(
  'sft.extraction',
  Options(),
  measure,
  cases,
  key_of_fields,
  table,
  needs=('model', 'data', 'teachers'),
  own_process=True,
)

if __name__ == '__main__':
  main(EXPERIMENT)
