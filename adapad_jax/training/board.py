"""Scalars for TensorBoard, written in the thread that has them.

`tensorboardX.SummaryWriter` hands them to a thread behind a short queue. If that thread
fails, as on a full disk, the next scalars wait for ever.
"""

import pathlib
import time

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class Board:
  """An events file in a folder, which is made if need be.

  Args:
    folder: where TensorBoard looks.
    first: the first step that is written; later ones of older files are hidden.
  """

  def __init__(self, folder: pathlib.Path, first: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    self._file = EventsWriter(str(folder / 'events'))
    self._write(step=first, file_version='brain.Event:2')
    self._write(step=first, session_log=SessionLog(status=SessionLog.START))

  def write(self, step: int, scalars: dict[str, float]) -> None:
    """Appends scalars, named like 'train/loss', and flushes."""
    for name, value in scalars.items():
      self._write(step=step, summary=scalar(name, value))
    self._file.flush()

  def _write(self, **fields: object) -> None:
    self._file.write_event(Event(wall_time=time.time(), **fields))

  def close(self) -> None:
    """Frees the file."""
    self._file.close()
