"""Reading torch's files: what it must give, and what it must never do."""

import io
import os
import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from adapad_jax.models import torch_bin


def write(path, pickled, storages=()):
  """A zip file laid out as torch's, with any pickle inside."""
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
    archive.writestr('archive/data.pkl', pickled)
    for key, data in enumerate(storages):
      archive.writestr(f'archive/data/{key}', data)
  return path


def read(path):
  with torch_bin.open_bin(path) as (tensors, _):
    return {name: np.array(x) for name, x in tensors.items()}


def test_every_dtype_and_layout_that_torch_writes(tmp_path):
  torch = pytest.importorskip('torch')
  base = torch.arange(24).reshape(4, 6)
  kinds = 'float32 float64 float16 int64 int32 int16 int8 uint8 bool'.split()
  state = {kind: base.to(getattr(torch, kind)) for kind in kinds}
  state |= {
    'transposed': base.float().T,
    'window': base[1:3, 2:5],
    'scalar': torch.tensor(3.5),
    'empty': torch.zeros(0, 3),
    'parameter': torch.nn.Parameter(base.float()).data,
  }
  torch.save(state, tmp_path / 'x.bin')
  ours = read(tmp_path / 'x.bin')
  assert ours.keys() == state.keys()
  for name, x in state.items():
    assert ours[name].dtype == x.numpy().dtype
    np.testing.assert_array_equal(ours[name], x.numpy(), err_msg=name)
  torch.save({'half': base.to(torch.bfloat16)}, tmp_path / 'y.bin')
  half = read(tmp_path / 'y.bin')['half']
  assert half.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(half.astype(np.float32), base.numpy())


class Calls:
  """Pickles as a call of any global."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


def hostile(kind, tmp_path):
  victim = tmp_path / 'victim'
  calls = {
    'os.system': Calls(os.system, f'touch {victim}'),
    'eval': Calls(eval, f'open({str(victim)!r}, "w")'),
    'nested': {'weight': [Calls(os.mkdir, str(victim))]},
    'getattr': Calls(getattr, 'x', 'upper'),
    'numpy': np.zeros(3),
  }
  return victim, pickle.dumps(calls[kind], protocol=2)


@pytest.mark.parametrize('kind', ['os.system', 'eval', 'nested', 'getattr', 'numpy'])
def test_a_pickle_that_calls_anything_is_refused_before_it_runs(kind, tmp_path):
  victim, pickled = hostile(kind, tmp_path)
  with pytest.raises(ValueError, match='refused to load'):
    read(write(tmp_path / 'x.bin', pickled))
  assert not victim.exists()


def tensor_pickle(offset=0, size=(4,), stride=(1,), count=4, kind=b'storage'):
  """One tensor over storage '0', in pickle's opcodes: no torch, any numbers."""
  number = lambda n: b'I%d\n' % n
  several = lambda *items: b'(' + b''.join(items) + b't'
  storage = several(
    b'V' + kind + b'\n', b'ctorch\nFloatStorage\n', b'V0\n', b'Vcpu\n', number(count)
  )
  arguments = several(
    storage + b'Q',
    number(offset),
    several(*map(number, size)),
    several(*map(number, stride)),
    b'I00\n',
    b'N',
  )
  return b'(dVweight\n' + b'ctorch._utils\n_rebuild_tensor_v2\n' + arguments + b'Rs.'


FLOATS = np.arange(4, dtype=np.float32)


def test_a_hand_made_tensor_is_read(tmp_path):
  pickled = tensor_pickle(offset=1, size=(2, 1), stride=(2, 1))
  ours = read(write(tmp_path / 'x.bin', pickled, [FLOATS.tobytes()]))
  np.testing.assert_array_equal(ours['weight'], [[1.0], [3.0]])


@pytest.mark.parametrize(
  'fields,match',
  [
    ({'size': (5,)}, 'reaches element 4 of 4'),
    ({'offset': 2, 'size': (3,)}, 'reaches element 4 of 4'),
    ({'offset': -1}, 'negative'),
    ({'stride': (-1,)}, 'negative'),
    ({'stride': (1, 1)}, 'ill-matched strides'),
    ({'size': (2, 2), 'stride': (9, 1)}, 'reaches element 10 of 4'),
    ({'count': 400}, 'needs 400 elements'),
    ({'count': -1}, 'said to hold -1 elements'),
    ({'size': (10**9, 10**9), 'stride': (0, 0)}, 'more elements than the 4 stored'),
    ({'size': (5,), 'stride': (0,)}, 'more elements than the 4 stored'),
    ({'kind': b'file'}, "refused persistent id 'file'"),
  ],
)
def test_a_tensor_cannot_reach_outside_its_storage(fields, match, tmp_path):
  path = write(tmp_path / 'x.bin', tensor_pickle(**fields), [FLOATS.tobytes()])
  with pytest.raises(ValueError, match=match):
    read(path)


@pytest.mark.parametrize(
  'content,match',
  [
    ([1, 2], 'holds a list, not a dict'),
    ({'epoch': 3}, r"entries \['epoch'\] are not tensors"),
  ],
)
def test_what_is_no_state_dict_is_refused(content, match, tmp_path):
  with pytest.raises(ValueError, match=match):
    read(write(tmp_path / 'x.bin', pickle.dumps(content)))


def with_header(archive, flags=0, method=0):
  """The archive, whose members claim to be encrypted or compressed."""
  changed = bytearray(archive)
  for signature, at in ((b'PK\x03\x04', 6), (b'PK\x01\x02', 8)):
    place = archive.find(signature)
    while place >= 0:
      changed[place + at : place + at + 4] = bytes([flags, 0, method, 0])
      place = archive.find(signature, place + 1)
  return bytes(changed)


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
  def load(self):
    raise MemoryError('too much')

  monkeypatch.setattr(torch_bin._Unpickler, 'load', load)
  with pytest.raises(ValueError, match='too much'):
    read(write(tmp_path / 'x.bin', tensor_pickle(), [FLOATS.tobytes()]))


def test_damaged_and_foreign_files_are_refused(tmp_path):
  whole = write(tmp_path / 'x.bin', tensor_pickle(), [FLOATS.tobytes()]).read_bytes()
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('archive/data.pkl', tensor_pickle())
    archive.writestr('archive/data/0', FLOATS.tobytes())
  wrong = {
    'cut': whole[: len(whole) // 2],
    'legacy': pickle.dumps(0x1950A86A20F9469CFC6C),
    'storage missing': write(tmp_path / 'y.bin', tensor_pickle()).read_bytes(),
    'compressed': buffer.getvalue(),
    'encrypted': with_header(whole, flags=1),
    'unknown compression': with_header(whole, method=99),
    'damaged compression': with_header(whole, method=zipfile.ZIP_DEFLATED),
  }
  for name, content in wrong.items():
    (tmp_path / 'z.bin').write_bytes(content)
    with pytest.raises(ValueError, match='not a readable zip-format torch file'):
      read(tmp_path / 'z.bin')
      pytest.fail(name)


def test_neither_torch_nor_a_copy_of_the_file_is_needed(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'torch', None)  # importing it would fail
  path = write(tmp_path / 'x.bin', tensor_pickle(), [FLOATS.tobytes()])
  with torch_bin.open_bin(path) as (tensors, _):
    assert tensors['weight'].base is not None
    assert not tensors['weight'].flags.writeable


def test_a_file_of_parameters_is_read_as_one_of_tensors(tmp_path):
  torch = pytest.importorskip('torch')
  x = torch.arange(6.0).reshape(2, 3)
  shared = torch.nn.Parameter(x.half(), requires_grad=False)
  state = {'a': torch.nn.Parameter(x), 'b': shared, 'c': shared, 'd': x}
  torch.save(state, tmp_path / 'x.bin')
  ours = read(tmp_path / 'x.bin')
  for name, value in state.items():
    np.testing.assert_array_equal(ours[name], value.detach().numpy())
