"""What workers tell each other, and the errors that can be read off it."""

import dataclasses

import jax
import jax.numpy as jnp

from adapad_jax import linalg
from adapad_jax.regression.moments import einsum, whitener


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Estimate:
  """Rank-one terms b a^T of W as broadcast, one a worker.

  The products that readers need travel along, so that nobody repeats them.

  Attributes:
    a_SI: input directions.
    b_SO: output directions.
    gain_S: b^T C a.
    g_SI: S a; None where the inputs are white and it would repeat a.
  """

  a_SI: jax.Array
  b_SO: jax.Array
  gain_S: jax.Array
  g_SI: jax.Array | None = None

  @property
  def sa_SI(self) -> jax.Array:
    """S a."""
    return self.a_SI if self.g_SI is None else self.g_SI


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class View:
  """What a device's workers see during a round.

  Attributes:
    seen: estimates of all workers, the versions kept one after another.
    sees_rT: 1 where a worker deflates by an estimate, else 0.
  """

  seen: Estimate
  sees_rT: jax.Array

  def explained_outputs(self, a_rI: jax.Array) -> jax.Array:
    """sum_j b_j (a_j^T S a_k) over the predecessors j that worker k sees."""
    gram_rT = self.sees_rT * einsum('ri,ti->rt', a_rI, self.seen.sa_SI)
    return einsum('rt,to->ro', gram_rT, self.seen.b_SO)

  def explained_inputs(self, b_rO: jax.Array, of_TI: jax.Array) -> jax.Array:
    """sum_j z_j (b_j^T b_k) over the same, for z the rows of `of_TI`."""
    gram_rT = self.sees_rT * einsum('ro,to->rt', b_rO, self.seen.b_SO)
    return einsum('rt,ti->ri', gram_rT, of_TI)


def objectives(yy: jax.Array, now: Estimate, visible_S: jax.Array) -> jax.Array:
  """1/2 ||Y - sum_{j<=k} b_j a_j^T X||_F^2 for every k, invisible terms left out."""
  visible_S = visible_S.astype(now.a_SI.dtype)
  gram_SS = einsum('so,to->st', now.b_SO, now.b_SO)
  gram_SS *= einsum('si,ti->st', now.a_SI, now.sa_SI)
  gram_SS *= visible_S[:, None] * visible_S[None]
  return 0.5 * yy - jnp.cumsum(now.gain_S * visible_S) + 0.5 * prefix(gram_SS)


def energies(now: Estimate) -> jax.Array:
  """||b_k a_k^T X||_F^2 for every k."""
  return jnp.sum(now.a_SI * now.sa_SI, 1) * jnp.sum(jnp.square(now.b_SO), 1)


def prefix(gram_SS: jax.Array) -> jax.Array:
  """The sums of the leading square blocks of a symmetric matrix, one a size."""
  # A cumulative sum over a matrix is slow on CPU; over a vector it is nothing.
  row_S = 2 * jnp.sum(jnp.tril(gram_SS, -1), 1) + jnp.diag(gram_SS)
  return jnp.cumsum(row_S)


def _aligned(now: Estimate, past: Estimate) -> tuple[Estimate, Estimate]:
  """`now` scaled to match `past`, b a^T unchanged, and the small differences.

  Without this b and -b, which give the same term, would look far apart; and from
  the differences an error is a sum of small squares, where the difference of two
  large squares would stop at the square root of the rounding error.
  """
  # Sign and length alone: the projection of one b on the other may vanish.
  size_S = jnp.linalg.norm(now.b_SO, axis=1)
  past_size_S = jnp.linalg.norm(past.b_SO, axis=1)
  usable_S = (size_S > 0) & (past_size_S > 0)
  scale_S = past_size_S / jnp.where(usable_S, size_S, 1)
  scale_S = jnp.where(jnp.sum(now.b_SO * past.b_SO, 1) < 0, -scale_S, scale_S)
  scale_S = jnp.where(usable_S, scale_S, 1)
  a_SI, g_SI = now.a_SI / scale_S[:, None], now.sa_SI / scale_S[:, None]
  b_SO = now.b_SO * scale_S[:, None]
  here = Estimate(a_SI, b_SO, now.gain_S, g_SI)
  step = Estimate(a_SI - past.a_SI, b_SO - past.b_SO, now.gain_S, g_SI - past.sa_SI)
  return here, step


def moved(now: Estimate, past: Estimate) -> jax.Array:
  """||(b_k a_k^T - b'_k a'_k^T) X||_F for every k."""
  here, step = _aligned(now, past)
  dot = lambda x, y: jnp.sum(x * y, 1)
  square_S = dot(step.b_SO, step.b_SO) * dot(here.a_SI, here.sa_SI)
  square_S += dot(past.b_SO, past.b_SO) * dot(step.a_SI, step.sa_SI)
  square_S += 2 * dot(step.b_SO, past.b_SO) * dot(here.a_SI, step.sa_SI)
  return jnp.sqrt(jnp.maximum(square_S, 0))


def mismatches(now: Estimate, exact: Estimate, visible_S: jax.Array) -> jax.Array:
  """||Y_{k,l} - Y_k*||_F = ||sum_{j<k} (b_j a_j^T - b*_j a*_j^T) X||_F for every k.

  With b_j a_j^T - b*_j a*_j^T = db_j a_j^T + b*_j da_j^T the sum is a product of
  two thin matrices, whose norm comes from their Gram matrices alone.
  """
  here, step = _aligned(now, exact)
  seen_S1 = visible_S[:, None]
  left_SO = jnp.where(seen_S1, step.b_SO, -exact.b_SO)
  other_SO = jnp.where(seen_S1, exact.b_SO, 0)
  right_SI = jnp.where(seen_S1, here.a_SI, exact.a_SI)
  right_g_SI = jnp.where(seen_S1, here.sa_SI, exact.sa_SI)
  outer = lambda x, y: einsum('sx,tx->st', x, y)
  cross_SS = outer(left_SO, other_SO) * outer(right_g_SI, step.a_SI)
  gram_SS = outer(left_SO, left_SO) * outer(right_SI, right_g_SI)
  gram_SS += outer(other_SO, other_SO) * outer(step.a_SI, step.sa_SI)
  gram_SS += cross_SS + cross_SS.T
  square_S = jnp.maximum(prefix(gram_SS), 0)
  return jnp.sqrt(jnp.concatenate([jnp.zeros_like(square_S[:1]), square_S[:-1]]))


def exact_estimate(c_OI: jax.Array, s_II: jax.Array | None, rank: int) -> Estimate:
  """The exact components: reduced-rank regression by one SVD of C T, T T^T = S^+.

  The fitted outputs Y X^+ X = sum_k sigma_k u_k v_k^T give b_k = u_k and
  a_k^T X = sigma_k v_k^T. Terms beyond min(m, d) are zero. S = None stands for
  white inputs, S = 1.
  """
  white = None if s_II is None else whitener(s_II)
  k_OI = c_OI if white is None else white.whiten(c_OI)
  u_OS, sigma_S, v_SI = linalg.svd(k_OI)
  short = max(rank - sigma_S.shape[0], 0)
  pad = lambda x: jnp.pad(x[:rank], [(0, short)] + [(0, 0)] * (x.ndim - 1))
  a_SI, g_SI = pad(sigma_S[:, None] * v_SI), None
  if white is not None:
    a_SI = white.restore(a_SI)
    g_SI = einsum('si,ij->sj', a_SI, s_II)
  return Estimate(a_SI, pad(u_OS.T), pad(jnp.square(sigma_S)), g_SI)
