"""What a kernel of a training step is there for, by the code that asked for it."""

from experiments.speed.kernels import Kernel

Frames = dict[int, tuple[str, ...]]

FORWARD, BACKWARD = 'frozen matrices, forward', 'frozen matrices, backward'
LOW_RANK, ATTENTION = 'low-rank products', 'attention products'
POSITION_PRODUCTS = 'relative positions: products'
POSITIONS = 'relative positions: shifts, sums, copies'
SOFTMAX, DROPOUT, NORMS = 'softmax', 'dropout', 'norms'
ELEMENTWISE = 'activations, biases, sums, transposes'
HEAD = 'embeddings, head and loss'
LOOPS = 'copies into and out of scanned stacks'
OPTIMISER = 'optimiser, masks, ranks'
GROUPS = (
  FORWARD,
  BACKWARD,
  LOW_RANK,
  ATTENTION,
  POSITION_PRODUCTS,
  POSITIONS,
  SOFTMAX,
  DROPOUT,
  NORMS,
  ELEMENTWISE,
  HEAD,
  LOOPS,
  OPTIMISER,
)
# A piece of 'file:function' of whoever asked -> (the group of a product, of the rest);
# the first that fits.
_RULES = (
  ('layers.py:dropout', DROPOUT, DROPOUT),
  ('masked.py:', LOW_RANK, LOW_RANK),
  ('distances.py:', POSITION_PRODUCTS, POSITIONS),
  ('._position_scores', POSITION_PRODUCTS, POSITIONS),
  ('._relative', POSITION_PRODUCTS, POSITIONS),
  ('Adapted.broadcast', POSITION_PRODUCTS, POSITIONS),
  ('attention.py:', ATTENTION, SOFTMAX),
  (':wide_einsum', ATTENTION, SOFTMAX),
  ('Norm.__call__', NORMS, NORMS),
  ('layers.py:_standardised', NORMS, NORMS),
  ('layers.py:_over_rms', NORMS, NORMS),
  ('layers.py:_keeping', NORMS, NORMS),
  ('trained_head.py:', HEAD, HEAD),
  ('Embed.__call__', HEAD, HEAD),
  ('_classification.py:', HEAD, HEAD),
  ('DebertaModel.', HEAD, HEAD),
  (':row_loss', HEAD, HEAD),
  ('stack.py:', LOOPS, LOOPS),
)
# Files whose other kernels are elementwise parts of a layer.
_LAYERS = (
  'linear.py:',
  'layers.py:',
  'attach.py:',
  'encoder.py:',
  'deberta.py:',
  'decoder.py:',
  'rotary.py:',
)


def group_of(kernel: Kernel, calls: Frames) -> str:
  """One of `GROUPS`.

  Args:
    kernel: of a compiled step.
    calls: see `kernels.frames`.
  """
  names, hero = calls.get(kernel.hero.frame, ()), kernel.hero
  asked = names[0] if names else ''
  for piece, of_product, of_rest in _RULES:
    if piece in asked:
      return of_product if kernel.flops else of_rest
  if kernel.flops and 'linear.py:' in asked:
    return BACKWARD if 'transpose(' in hero.path else FORWARD
  if any(piece in asked for piece in _LAYERS):
    return ELEMENTWISE
  return OPTIMISER if asked else LOOPS
