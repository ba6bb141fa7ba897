"""What lies on the test hub: tiny models and data in the layouts of public ones."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import safetensors.numpy
import yaml

from adapad_jax.models import Head, outline, weights

WORDS = ('good', 'fine', 'great', 'bad', 'poor', 'awful', 'film', 'plot', 'cast')


def data_set(subsets):
  """Files of a repository of parquet files with a card.

  Args:
    subsets: by name, its splits: by name, (columns, class names of 'label' or None).
  """
  files, entries, infos = {}, [], []
  for subset, splits in subsets.items():
    listed = []
    for split, (columns, _) in splits.items():
      path = f'{subset}/{split}-00000-of-00001.parquet'
      files[path] = parquet(columns)
      listed.append({'split': split, 'path': f'{subset}/{split}-*'})
    entries.append({'config_name': subset, 'data_files': listed})
    features = _features(*next(iter(splits.values())))
    infos.append({'config_name': subset, 'features': features})
  card = yaml.safe_dump({'configs': entries, 'dataset_info': infos}, sort_keys=False)
  return files | {'README.md': f'---\n{card}---\n# A data set\n'}


def parquet(columns):
  """A parquet file of columns."""
  file = io.BytesIO()
  pyarrow.parquet.write_table(pa.table(columns), file)
  return file.getvalue()


def _features(columns, names):
  """The features of a card, as `datasets` writes them."""
  found = []
  for name, values in columns.items():
    if name == 'label' and names:
      labels = {str(i): one for i, one in enumerate(names)}
      found.append({'name': name, 'dtype': {'class_label': {'names': labels}}})
    elif name == 'answers':
      parts = [
        {'name': 'text', 'list': 'string'},
        {'name': 'answer_start', 'list': 'int32'},
      ]
      found.append({'name': name, 'struct': parts})
    else:
      kinds = {str: 'string', int: 'int64', float: 'float64'}
      found.append({'name': name, 'dtype': kinds[type(values[0])]})
  return found


def folder_files(folder):
  """All files of a folder, by name."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def opinions(rows):
  """Texts and labels, as a data set of two splits."""
  pick = lambda i: [WORDS[(i * 7 + k * 3) % 9] for k in range(4)]
  columns = lambda start, n: {
    'text': [' '.join(pick(start + i)) for i in range(n)],
    'label': [i % 2 for i in range(n)],
  }
  names = ('pos', 'neg')  # Not in the order of the alphabet.
  return data_set(
    {
      'default': {
        'train': (columns(0, rows), names),
        'dev': (columns(rows, rows // 2), names),
      }
    }
  )


def bert(**changes):
  """The configuration of a tiny BERT, and its vocabulary."""
  config = {
    'architectures': ['BertForMaskedLM'],
    'model_type': 'bert',
    'vocab_size': 5 + len(WORDS),
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 32,
    'max_position_embeddings': 32,
    'type_vocab_size': 2,
  }
  vocabulary = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS)
  settings = {'tokenizer_class': 'BertTokenizer', 'model_max_length': 32}
  return {
    'config.json': json.dumps(config | changes),
    'vocab.txt': '\n'.join(vocabulary) + '\n',
    'tokenizer_config.json': json.dumps(settings),
    'README.md': '# A model\n',
  }


def with_weights(files, folder, head=None):
  """The files of a model, and beside them weights for them, in safetensors.

  Args:
    files: configuration and tokenizer.
    folder: scratch; the model is outlined from there.
    head: also writes a head of that kind.
  """
  folder.mkdir(parents=True, exist_ok=True)
  for name, data in files.items():
    mode = 'wb' if isinstance(data, bytes) else 'w'
    with (folder / name).open(mode) as file:
      file.write(data)
  return files | {'model.safetensors': safetensors.numpy.save(draw(folder, head))}


def draw(folder, head=None):
  """Tensors of a model under torch's names, those of the head only if it is given."""
  outlined = outline(str(folder), head or Head('span'))
  heads = () if head else tuple(f'{name}.' for name in outlined.head_modules)
  rng = np.random.default_rng(0)
  return {
    name: rng.normal(0, 0.2, slot.shape).astype(np.float32)
    for slot in weights.slots_of(outlined.model)
    for name in slot.names
    if not heads or not name.startswith(heads)
  }
