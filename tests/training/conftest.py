"""What several modules of runs share."""

import pytest

from tests.forks import Forks


@pytest.fixture(scope='module')
def forks():
  """Starts processes that share their imports."""
  forks = Forks()
  yield forks
  forks.close()
