"""What goes wrong with the hub, in the words of who has to deal with it."""

import dataclasses
import errno
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import huggingface_hub
import huggingface_hub.constants

from adapad_jax.hub.repository import Repository

if TYPE_CHECKING:
  from huggingface_hub.errors import HfHubHTTPError

T = TypeVar('T')

# Seconds before each further try, and the longest that a hub which asks to be left
# alone for a while is waited for.
DELAYS = (1.0, 2.0, 4.0)
LONGEST_WAIT = 60.0
_LOGIN = 'run `hf auth login` or set HF_TOKEN'
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
_AGAIN = (408, 425, 429)


class HubError(ValueError):
  """Something cannot be had from the hub, or given to it.

  Attributes:
    reason: why, without the name of the repository; one line.
  """

  def __init__(self, repository: Repository, reason: str) -> None:
    super().__init__(f'{repository}: {reason}')
    self.reason = reason


@dataclasses.dataclass(frozen=True)
class Fault:
  """One failure.

  Attributes:
    reason: what went wrong, and what to do about it; one line.
    passing: whether the same request may succeed a little later.
    wait: seconds that the hub wants to be left alone for.
  """

  reason: str
  passing: bool = False
  wait: float = 0.0


def call(action: Callable[[], T], repository: Repository, tries: int = 4) -> T:
  """Does something that asks the hub; failures that may pass are tried again.

  Args:
    action: nothing but the library's call: whatever it raises is the hub's.
    repository: what it is about.
    tries: how often, at most `len(DELAYS) + 1`.

  Raises:
    HubError: in the place of every exception of the library.
  """
  for delay in (*DELAYS[: tries - 1], None):
    try:
      return action()
    # Transport, protocol, JSON, disk, Xet: half a dozen unrelated families.
    except Exception as error:
      fault = read(error, repository)
      if delay is None or not fault.passing or fault.wait > LONGEST_WAIT:
        raise HubError(repository, fault.reason) from error
    pause = max(delay, fault.wait)
    logging.getLogger(__name__).info(
      '%s: %s; trying again in %.0f s', repository, fault.reason, pause
    )
    time.sleep(pause)
  raise AssertionError('the last try returns or raises')


def read(error: BaseException, repository: Repository) -> Fault:
  """What an exception of the hub's library means."""
  # Here, because they bring what speaks to servers in, which most starts do without.
  from huggingface_hub import errors
  from huggingface_hub.utils import httpx

  # The library says 'not in the cache' where it could not ask, and 'error while
  # uploading'; why is the cause.
  wrapped = errors.LocalEntryNotFoundError, RuntimeError
  while isinstance(error, wrapped) and error.__cause__:
    error = error.__cause__
  if isinstance(error, errors.OfflineModeIsEnabled):
    return Fault('HF_HUB_OFFLINE is set')
  if isinstance(error, errors.HfHubHTTPError):
    return _answered(error, repository)
  if isinstance(error, httpx.TimeoutException):
    return Fault('the hub does not answer in time', passing=True)
  if isinstance(error, httpx.ProxyError):
    return Fault(f'the proxy does not let it through: {one_line(error)}')
  if isinstance(error, httpx.ConnectError):
    where = huggingface_hub.constants.ENDPOINT
    return Fault(f'no connection to {where}: {one_line(error)}', passing=True)
  if isinstance(error, httpx.HTTPError):
    return Fault(f'the connection to the hub broke: {one_line(error)}', passing=True)
  if isinstance(error, OSError) and error.errno in _DISK:
    return Fault(f'the local cache cannot be written: {one_line(error)}')
  # Among them OSError for a file of the wrong size and RuntimeError from Xet.
  return Fault(f'{type(error).__name__}: {one_line(error)}', passing=True)


def _answered(error: 'HfHubHTTPError', repository: Repository) -> Fault:
  """What the hub meant by an answer that is an error."""
  from huggingface_hub import errors

  code, said = error.response.status_code, one_line(error.server_message or '')
  if isinstance(error, errors.GatedRepoError):
    return Fault(_gated(repository))
  if isinstance(error, errors.RepositoryNotFoundError):
    return Fault(_not_found())
  if isinstance(error, errors.RevisionNotFoundError):
    return Fault(
      f'it has no revision {repository.asked!r}; {repository.url}/tree/main lists its'
      ' branches and tags'
    )
  if code == 401:
    return Fault(f'the token is not valid ({said or code}); {_LOGIN} anew')
  if code == 403:
    return Fault(f'access is denied ({said or code}); {_LOGIN} for an account that may')
  wait = retry_after(error.response.headers)
  if code == 429:
    when = f' for another {wait:.0f} s' if wait else ''
    return Fault(f'the hub takes no more requests from here{when} (429)', True, wait)
  passing = code in _AGAIN or code >= 500
  return Fault(f'the hub answers {code}' + f' ({said})' * bool(said), passing, wait)


def _gated(repository: Repository) -> str:
  has_token = bool(huggingface_hub.get_token())
  then = 'the token at hand has no access yet' if has_token else f'then {_LOGIN}'
  return f'access is restricted; ask for access at {repository.url}, {then}'


def _not_found() -> str:
  # The hub does not tell strangers which of its private repositories exist.
  if huggingface_hub.get_token():
    return (
      'there is none of that name, or the token at hand may not read it; check the'
      f' name, or {_LOGIN} for another account'
    )
  return f'there is none of that name, or it is private; check the name, or {_LOGIN}'


def retry_after(headers: Mapping[str, str]) -> float:
  """Seconds that the header Retry-After asks for; 0 without one, or with a date."""
  given = headers.get('Retry-After', '')
  return float(given) if given.isdecimal() else 0.0


def one_line(error: BaseException | str) -> str:
  """All lines of a message in one; the type where there is no message."""
  text = ' '.join(str(error).split()).rstrip('.')
  return text or (type(error).__name__ if not isinstance(error, str) else '')
