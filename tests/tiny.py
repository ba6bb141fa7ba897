"""A tiny BERT folder and a tiny task on disk: runs of seconds, every part real."""

import csv
import json
import pathlib

import numpy as np

WORDS = ('good', 'fine', 'great', 'bad', 'poor', 'awful', 'film', 'plot', 'cast')
LAYERS, STEPS = 2, 60


def make_model(folder: pathlib.Path) -> str:
  """Writes config.json and a WordPiece vocabulary; weights are to be drawn."""
  folder.mkdir(parents=True, exist_ok=True)
  config = {
    'model_type': 'bert',
    'vocab_size': 5 + len(WORDS),
    'hidden_size': 16,
    'num_hidden_layers': LAYERS,
    'num_attention_heads': 2,
    'intermediate_size': 32,
    'max_position_embeddings': 32,
    'type_vocab_size': 2,
    'initializer_range': 0.3,
  }
  (folder / 'config.json').write_text(json.dumps(config))
  vocabulary = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS)
  (folder / 'vocab.txt').write_text('\n'.join(vocabulary) + '\n')
  settings = {'tokenizer_class': 'BertTokenizer', 'model_max_length': 32}
  (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
  return str(folder)


def make_data(folder: pathlib.Path, rows: int = 96, seed: int = 0) -> str:
  """Writes train.csv and validation.csv; a text's three verdicts agree."""
  rng = np.random.default_rng(seed)
  for name, size in (('train', rows), ('validation', 40)):
    with (folder / f'{name}.csv').open('w', newline='') as file:
      writer = csv.writer(file)
      writer.writerow(['text', 'label'])
      for _ in range(size):
        positive = bool(rng.integers(2))
        verdict = WORDS[:3] if positive else WORDS[3:6]
        words = [verdict[i] for i in rng.integers(0, 3, 3)]
        words += [WORDS[6:][i] for i in rng.integers(0, 3, rng.integers(0, 3))]
        text = ' '.join(rng.permutation(words))
        writer.writerow([text, 'pos' if positive else 'neg'])
  return str(folder)


def values(folder: pathlib.Path, **groups) -> dict:
  """A config for such a run: 60 rounds of 16 rows on 12 modules, budget 18."""
  base = {
    'method': 'adapad',
    'data': {'task': 'classification', 'path': str(folder), 'max_length': 8},
    'model': {'source': make_model(folder / 'model'), 'random_weights': True},
    'optimizer': {'learning_rate': 0.02, 'warmup': 2.0},
    'head_optimizer': {'learning_rate': 0.02},
    'train': {
      'batch': 16,
      'steps': STEPS,
      'eval_batch': 40,
      'evaluations': 3,
      'checkpoint_every': 10,
      'log_every': 1,
      'curve_from': 0,
    },
    'adapad': {
      'budget': 18,
      'r_max': 3,
      'start': 10,
      'interval': 10,
      'grants_per_event': 2,
      'joint': 0.0,
      'polish': 0.0,
      'head_rows': 'last',
    },
    'mesh': {'worker': 1, 'data': 1},
  }
  for name, group in groups.items():
    merge = isinstance(group, dict) and name in base
    base[name] = base[name] | group if merge else group
  return base
