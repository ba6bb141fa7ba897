"""Tests ../../adapad_jax/workdir/shell.py."""

import shlex

from adapad_jax.workdir import command_for


def test_a_folder_with_blanks_and_quotes_is_one_word_of_a_shell(tmp_path):
  folder = tmp_path / "my 'best' run; ls"
  words = shlex.split(command_for('eval', folder))
  assert words == [
    'python',
    '-m',
    'adapad_jax.main',
    '--mode=eval',
    f'--workdir={folder}',
  ]
