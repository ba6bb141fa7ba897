"""A tiny Llama with a ChatML tokenizer and questions to answer: runs of seconds."""

import json

from tests.tasks.sft import toy

PAIRS = (('Hi', 'Hello'), ('No?', 'No'), ('Yes?', 'Yes Yes'), ('Hi Hi', 'Hello Hello'))

# What `values` takes for a run that answers most questions, and is scored for it.
ANSWER = r'^((?:Hello|No|Yes)(?: (?:Hello|No|Yes))*)$'
LEARNS = {
  'data': {
    'generation': {'samples': 2, 'max_new_tokens': 8, 'answer': ANSWER, 'scored': 8}
  },
  'train': {'steps': 60},
  'optimizer': {'learning_rate': 0.03},
}


def make_folder(folder):
  """A tiny Llama with a tokenizer, and rows to train on."""
  model = folder / 'model'
  toy.tokenizer(toy.CHATML, eos='<|im_end|>').save_pretrained(model)
  config = {
    'model_type': 'llama',
    'vocab_size': 300,
    'hidden_size': 16,
    'intermediate_size': 24,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'num_key_value_heads': 1,
    'max_position_embeddings': 128,
    'rope_theta': 10000.0,
    'rms_norm_eps': 1e-5,
    'tie_word_embeddings': True,
    'initializer_range': 0.3,
  }
  (model / 'config.json').write_text(json.dumps(config))
  rows = [
    dict(zip(('question', 'answer'), PAIRS[i % 4], strict=True)) for i in range(64)
  ]
  toy.write_rows(folder / 'train.jsonl', rows)
  return folder


def values(folder, **groups):
  """A config for such a run: 16 batches of 8 rows on 14 modules."""
  base = {
    'data': {
      'task': 'sft',
      'train': str(folder / 'train.jsonl'),
      'max_length': 64,
      'holdout': 0.125,
      'cache': str(folder / 'cache'),
      'generation': {'samples': 0, 'max_new_tokens': 8},
    },
    'model': {'source': str(folder / 'model'), 'random_weights': True, 'scan': True},
    'optimizer': {'learning_rate': 0.02, 'warmup': 0.0},
    'train': {
      'batch': 8,
      'steps': 16,
      'eval_batch': 8,
      'evaluations': 2,
      'curve_from': 0,
    },
    'adapad': {'r_max': 2, 'budget': 20},
    'mesh': {'worker': 1, 'data': 1},
  }
  for name, group in groups.items():
    merge = isinstance(group, dict) and name in base
    base[name] = base[name] | group if merge else group
  return base
