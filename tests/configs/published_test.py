"""The paper's own setting, an option of every recipe."""

import pytest

from adapad_jax.training.config import finetune_config
from configs import glue, sft, squad


@pytest.mark.parametrize(
  'get_config, arg',
  [
    (glue.get_config, 'quickstart'),
    (glue.get_config, 'rte'),
    (glue.get_config, 'classification,minilm'),
    (squad.get_config, 'v2,encoder'),
    (sft.get_config, 'smollm2'),
  ],
)
def test_published_changes_who_sees_which_rows_and_nothing_else(get_config, arg):
  usual = get_config(arg).to_dict()
  found = get_config(f'{arg},published').to_dict()
  changed = {
    'feeding': 'replicate',
    'joint': 0.0,
    'polish': 0.0,
    'head_rows': 'last',
  }
  assert found == usual | {'adapad': usual['adapad'] | changed}
  settings = finetune_config(found).settings.resolve(36, 200, 32)
  assert (settings.joint, settings.polish) == (0.0, 0.0)


def test_recipes_leave_the_rows_to_the_defaults():
  for get_config in (glue.get_config, squad.get_config, sft.get_config):
    settings = finetune_config(get_config().to_dict()).settings
    assert (settings.feeding, settings.head_rows) == ('split', 'all')
    found = settings.resolve(36, 200, 32)
    assert (found.joint, found.polish) == (0.75, 0.25)
