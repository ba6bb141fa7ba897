"""The plan of a run in a workdir, in which it may have begun before."""

import functools
import pathlib

from adapad_jax.training.claim import as_begun, require_same_run
from adapad_jax.training.commits import recorded
from adapad_jax.training.config import FinetuneConfig
from adapad_jax.training.plan import Plan, make_plan
from adapad_jax.training.record import known_record, require_same_data
from adapad_jax.workdir import CONFIG


def plan_in(
  workdir: pathlib.Path, config: FinetuneConfig, *, needs_weights: bool = True
) -> Plan:
  """The plan of a run there: a new one, or one that goes on as it was begun.

  A run that has begun keeps the commits of the hub that it read, the form of its model
  and the components that it began with.

  Args:
    workdir: of the run, whether it exists or not.
    config: the run.
    needs_weights: whether a folder without weights is refused.

  Raises:
    ValueError: if the workdir holds a run with another config or on other data, or for
      what `make_plan` refuses.
  """
  require_same_run(workdir, config)
  begun = (workdir / CONFIG).is_file()
  # The config comes last: what was ended before it has not begun.
  then = known_record(workdir) if begun else None
  return make_plan(
    as_begun(workdir, config),
    commits=recorded(then),
    check=functools.partial(require_same_data, workdir, then),
    needs_weights=needs_weights,
    begins=then.begins if then else 0,
    begun=begun,
  )
