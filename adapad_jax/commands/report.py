"""`--mode=report`: draws the report of a run, or compares several."""

import pathlib

from adapad_jax.commands import Request
from adapad_jax.commands.outputs import check_outputs
from adapad_jax.report import REPORT, figures_of, write_comparison, write_report
from adapad_jax.training.terminal import say
from adapad_jax.workdir import CONFIG, at

COMPARISON = 'comparison.html'


def run(request: Request) -> None:
  """Writes report.html into --workdir, or compares --workdir=A,B,C in --output.

  Without --output the comparison lies beside the first workdir. One that exists is
  replaced only with --overwrite.

  Raises:
    ValueError: if none is named, one of them holds no finished run, the comparison or
      one of its figures exists, or matplotlib is missing.
  """
  folders = [part.strip() for part in str(request.run_folder()).split(',')]
  workdirs = [at(part) for part in folders if part]
  chosen = request.options['output']
  if not workdirs:
    raise ValueError(f'--workdir={request.run_folder()} names no run')
  if len(workdirs) == 1:
    if chosen:
      raise ValueError(
        f'--output={chosen} is where a comparison of several --workdir=A,B goes; the'
        ' report of one run lies in its workdir'
      )
    say(f'report: {write_report(workdirs[0])}')
    return
  output = pathlib.Path(chosen) if chosen else workdirs[0].parent / COMPARISON
  output = output.expanduser()
  if output.suffix.lower() != '.html':
    raise ValueError(f'--output={chosen} must end in .html')
  if output.name == REPORT and (output.parent / CONFIG).is_file():
    raise ValueError(
      f"--output={chosen} is where the run's own report lies; choose another name for a"
      f' comparison, such as {COMPARISON}'
    )
  figures = sorted(figures_of(output).glob('*.png'))
  check_outputs([output, *figures], overwrite=request.options.get('overwrite', False))
  say(f'report: {write_comparison(workdirs, output)}')
