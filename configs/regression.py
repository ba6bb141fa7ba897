"""Low-rank regression and principal components by parallel deflation.

  python -m adapad_jax.main --config=configs/regression.py --workdir=runs/regression

fits 8 components to planted data (3000 rows, 128 inputs, 96 outputs, noise 0.1) and
compares them with the exact solution by SVD: seconds on two CPU cores. The folder
then holds metrics.jsonl (one line a round), components.npz, result.json and
report.html; --mode=eval and --mode=report read it again.

  --config=configs/regression.py:sequential     one component after another
  --config=configs/regression.py:joint          gradient descent on both factors
  --config=configs/regression.py:exact          reduced-rank regression by SVD
  --config=configs/regression.py:discover       stops growing at the noise
  --config=configs/regression.py:parallel,pca   principal components

  python -m adapad_jax.main --config=configs/regression.py:discover \\
      --config.data.x=inputs.npy --config.data.y=outputs.csv --config.rank=20

fits one's own files (.npy, .csv, .tsv; one example a row); without data.y, their
principal components. Late workers: --config.traffic.late=3 [--config.traffic.random].
"""

import ml_collections

from adapad_jax.regression.config import RegressionConfig
from adapad_jax.settings import as_dict
from configs.common import parse


def get_config(arg: str = 'parallel') -> ml_collections.ConfigDict:
  """Options: a method, and `pca`."""
  options = parse(arg, method='parallel', pca=False)
  config = ml_collections.ConfigDict(as_dict(RegressionConfig()))
  config.method = options.method
  config.data.pca = options.pca
  if options.method == 'joint':
    config.solver.name = 'momentum'
    config.solver.learning_rate = 1e-4
    config.schedule.rounds = 300
  if options.method == 'discover':
    config.rank = 20
    config.schedule.rounds = 200
  return config
