"""Every family against torch on random weights: the largest errors.

  python -m experiments.export.parity

Tiny models of random sizes, windows shorter than the rows, padding on either side. Of
each, outputs at tokens and gradients of all parameters are compared with those of
transformers, and of decoders the tokens that both generate greedily with a cache.
A quarter each of the models is run plain, scanned, fused, and both. Needs torch.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from adapad_jax.models import Head, generation
from experiments.harness import Experiment, Run, key_of_fields, main
from experiments.results import Row, matching, row
from experiments.tables import markdown
from tests.models import parity

_VOCABULARY, _LONGEST, _NEW = 300, 40, 12
_ROPES = (
  {'rope_type': 'default', 'rope_theta': 10000.0},
  {'rope_type': 'linear', 'rope_theta': 500.0, 'factor': 2.5},
  {
    'rope_type': 'llama3',
    'rope_theta': 1000.0,
    'factor': 4.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 3.0,
    'original_max_position_embeddings': 16,
  },
  {
    'rope_type': 'yarn',
    'rope_theta': 100.0,
    'factor': 4.0,
    'beta_fast': 4.0,
    'original_max_position_embeddings': 32,
  },
)
_FULL, _SLIDING = 'full_attention', 'sliding_attention'
_OUTPUTS, _GRADIENTS = 'largest error of outputs', 'largest error of gradients'
_TOKENS = 'equal greedy tokens'
Draw = np.random.Generator
Fields = dict[str, Any]


def _encoder(rng: Draw) -> Fields:
  heads = int(rng.integers(1, 4))
  return {
    'hidden_size': heads * int(rng.choice([4, 8])),
    'num_attention_heads': heads,
    'intermediate_size': int(rng.choice([8, 20])),
    'num_hidden_layers': 2,
    'pad_token_id': 0,
  }


def _decoder(rng: Draw) -> Fields:
  groups = int(rng.integers(1, 3))
  heads = groups * int(rng.integers(1, 4))
  return _encoder(rng) | {
    'hidden_size': heads * int(rng.choice([4, 6])),
    'num_attention_heads': heads,
    'num_key_value_heads': groups,
    'head_dim': int(rng.choice([4, 8])),
    'rope_parameters': dict(_ROPES[rng.integers(len(_ROPES))]),
    'tie_word_embeddings': bool(rng.integers(2)),
  }


def _deberta(rng: Draw) -> Fields:
  return _encoder(rng) | {
    'relative_attention': True,
    'pos_att_type': ['p2c', 'c2p'],
    'share_att_key': bool(rng.integers(2)),
    'norm_rel_ebd': 'layer_norm',
    'position_buckets': int(rng.choice([4, 8])),
    'position_biased_input': False,
    'type_vocab_size': 0,
  }


def _modernbert(rng: Draw) -> Fields:
  tokens = ('bos_token_id', 'cls_token_id', 'eos_token_id', 'sep_token_id')
  return _encoder(rng) | {
    'local_attention': int(rng.choice([2, 6, 10])),
    'layer_types': [_FULL, _SLIDING],
    **dict.fromkeys(tokens, 1),
  }


def _window(rng: Draw) -> int:
  # Not one: there transformers 5.24 generates otherwise with a cache than without.
  return int(rng.choice([2, 3, 6, 13]))


def _qwen2(rng: Draw) -> Fields:
  slides = {'use_sliding_window': True, 'max_window_layers': 1}
  return _decoder(rng) | slides | {'sliding_window': _window(rng)}


def _smollm3(rng: Draw) -> Fields:
  return _qwen2(rng) | {'no_rope_layers': [1, 0], 'attention_bias': True}


def _gemma3(rng: Draw) -> Fields:
  fields = _decoder(rng)
  local = {'rope_type': 'default', 'rope_theta': 700.0}
  ropes = {_FULL: dict(_ROPES[rng.integers(2)]), _SLIDING: local}
  return fields | {
    'rope_parameters': ropes,
    'tie_word_embeddings': True,
    'sliding_window': _window(rng),
    'layer_types': [_SLIDING, _FULL],
    'query_pre_attn_scalar': int(rng.choice([8, 256])),
  }


# Our name, transformers' names of config and model, and how fields are drawn.
FAMILIES: dict[str, tuple[str, str, Callable[[Draw], Fields]]] = {
  'bert': ('Bert', 'BertForQuestionAnswering', _encoder),
  'roberta': ('Roberta', 'RobertaForQuestionAnswering', _encoder),
  'deberta-v2': ('DebertaV2', 'DebertaV2ForQuestionAnswering', _deberta),
  'modernbert': ('ModernBert', 'ModernBertForQuestionAnswering', _modernbert),
  'llama': ('Llama', 'LlamaForCausalLM', _decoder),
  'qwen2': ('Qwen2', 'Qwen2ForCausalLM', _qwen2),
  'qwen3': ('Qwen3', 'Qwen3ForCausalLM', _decoder),
  'mistral': (
    'Mistral',
    'MistralForCausalLM',
    lambda rng: _decoder(rng) | {'sliding_window': _window(rng)},
  ),
  'smollm3': ('SmolLM3', 'SmolLM3ForCausalLM', _smollm3),
  'gemma3_text': ('Gemma3Text', 'Gemma3ForCausalLM', _gemma3),
}


def compare(family: str, seed: int) -> tuple[float, float, int, int]:
  """One random model: errors of outputs and gradients, tokens equal, tokens said."""
  import transformers

  name, torch_class, draw = FAMILIES[family]
  rng = np.random.default_rng(seed)
  sizes = {'vocab_size': _VOCABULARY, 'max_position_embeddings': _LONGEST + _NEW}
  config = getattr(transformers, f'{name}Config')(**sizes | draw(rng))
  speaks = torch_class.endswith('ForCausalLM')
  pair = parity.make_pair(
    getattr(transformers, torch_class),
    config,
    Head('lm' if speaks else 'span'),
    seed,
    scan=bool(seed % 2),
    fused=seed % 4 > 1,
  )
  lengths = [int(n) for n in rng.integers(1, _LONGEST + 1, 3)]
  left = speaks and bool(rng.integers(2))
  batch = parity.draw_batch(seed, lengths, max(lengths), _VOCABULARY, left)
  outputs, gradients = parity.gaps(pair, batch)
  if not speaks:
    return outputs, max(gradients.values()), 0, 0
  budget = generation.Budget(_NEW)
  # transformers goes on with rows that are padded on the left alone.
  prompt = parity.draw_batch(seed, lengths, max(lengths), _VOCABULARY, left=True)
  ours = np.asarray(generation.generate(pair.ours.model, prompt, budget))
  theirs = parity.generate_of_torch(pair.reference, prompt, budget)
  return outputs, max(gradients.values()), int((ours == theirs).sum()), ours.size


@dataclasses.dataclass(frozen=True)
class Options:
  """What is compared.

  Attributes:
    draws: models of each family.
    families: by `model_type`.
  """

  draws: int = 8
  families: tuple[Literal[*FAMILIES], ...] = tuple(FAMILIES)


@dataclasses.dataclass(frozen=True)
class Case:
  """Models of a family."""

  family: str
  draws: int


def cases(run: Run) -> list[Case]:
  """One a family."""
  return [Case(family, run.options.draws) for family in run.options.families]


def measure(run: Run, case: Case) -> Iterator[Row]:
  """The largest errors over a family's models, and how many tokens are equal."""
  import transformers

  found = [compare(case.family, seed) for seed in range(case.draws)]
  outputs, gradients, equal, said = zip(*found, strict=True)
  about = dataclasses.asdict(case) | {'transformers': transformers.__version__}
  yield row(_OUTPUTS, max(outputs), '', **about)
  yield row(_GRADIENTS, max(gradients), '', **about)
  if sum(said):
    yield row(_TOKENS, sum(equal), 'tokens', **about, generated=sum(said))


def table(run: Run) -> str:
  """A row for every family."""
  lines = []
  for case in cases(run):
    known = matching(run.results.rows(), dataclasses.asdict(case))
    found = {one['figure']: one for one in known}
    if found:
      error = lambda figure, found=found: f'{found[figure]["value"]:.1e}'
      said = found.get(_TOKENS)
      tokens = f'{said["value"]} of {said["generated"]}' if said else ''
      cells = error(_OUTPUTS), error(_GRADIENTS), tokens
      lines.append([f'`{case.family}`', str(case.draws), *cells])
  head = ['`model_type`', 'models', 'outputs', 'gradients', 'tokens equal']
  return markdown(head, lines)


EXPERIMENT = Experiment(
  'export.parity', Options(), measure, cases, key_of_fields, table
)

if __name__ == '__main__':
  main(EXPERIMENT)
