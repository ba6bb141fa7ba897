"""A small model hub in a thread: what its client libraries ask for, and faults.

Repositories lie in memory. A commit is the hash of its files and of the commit before
it; large files are sent by another host, as the real hub does; ranges are served, so
that a client can go on with a body that was cut.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import socket
import struct
import threading
import urllib.parse

import yaml

# Sent from elsewhere, by checksum.
LARGE = ('.safetensors', '.bin', '.parquet', '.model')
_KINDS = {'models': 'model', 'datasets': 'dataset'}


@dataclasses.dataclass
class Repository:
  """One repository.

  Attributes:
    kind, name: what it is.
    readers: tokens that may read it; None means everybody.
    gated: everybody sees that it exists, readers alone get its files.
    branches: commit by branch or tag.
    commits: files by commit.
  """

  kind: str
  name: str
  readers: set[str] | None = None
  gated: bool = False
  branches: dict[str, str] = dataclasses.field(default_factory=dict)
  commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)

  def commit(self, files: dict[str, bytes], branch: str = 'main') -> str:
    """Makes a commit of exactly these files the head of a branch."""
    parts = [self.branches.get(branch, ''), self.kind, self.name]
    parts += [f'{name}:{sha256(data)}' for name, data in sorted(files.items())]
    sha = hashlib.sha1('\n'.join(parts).encode()).hexdigest()
    self.commits[sha], self.branches[branch] = dict(files), sha
    return sha

  def at(self, revision: str) -> str | None:
    """The commit of a branch, a tag, or a commit itself."""
    found = self.branches.get(revision, revision)
    return found if found in self.commits else None


@dataclasses.dataclass
class Fault:
  """What happens to requests instead of, or on the way to, an answer.

  Attributes:
    where: regex that is searched for in 'METHOD /path'.
    kind: 'status', 'reset', 'close', 'cut' (a body, after `size` bytes, by a reset),
      'stop' (the same, politely) or 'hang'.
    status, headers: of an answer of kind 'status'.
    size: bytes of a body that get through.
    times: how many requests; None: all.
  """

  where: str
  kind: str
  status: int = 503
  headers: dict[str, str] = dataclasses.field(default_factory=dict)
  size: int = 0
  times: int | None = None


def sha256(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()


def blob_id(data: bytes) -> str:
  """The id that git gives a file."""
  return hashlib.sha1(b'blob %d\0' % len(data) + data).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
  """The server.

  Attributes:
    url, files_url: the two hosts.
    repositories: by (kind, name).
    tokens: name of the user by token.
    faults: the first that fits a request happens.
    asked: 'METHOD /path' of all requests, without the query.
  """

  daemon_threads = True

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.url = f'http://127.0.0.1:{self.server_address[1]}'
    self.files_url = f'http://localhost:{self.server_address[1]}'
    self.repositories: dict[tuple[str, str], Repository] = {}
    self.tokens = {'hf_owner': 'owner', 'hf_stranger': 'stranger'}
    self.faults: list[Fault] = []
    self.asked: list[str] = []
    self.stored: dict[str, bytes] = {}
    self.ended = threading.Event()
    self.lock = threading.Lock()

  def put(self, kind, name, files, branch='main') -> str:
    """Commits these files to a repository, which is made if need be."""
    files = {n: d.encode() if isinstance(d, str) else d for n, d in files.items()}
    return self.repository(kind, name).commit(files, branch)

  def repository(self, kind, name) -> Repository:
    return self.repositories.setdefault((kind, name), Repository(kind, name))

  def fail(self, where, kind, **details) -> None:
    self.faults = [Fault(where, kind, **details)]

  def fault_of(self, request) -> Fault | None:
    """The fault of a request, counted down."""
    with self.lock:
      self.asked.append(request)
      for fault in self.faults:
        if re.search(fault.where, request) and fault.times != 0:
          fault.times = None if fault.times is None else fault.times - 1
          return fault
    return None

  def handle_error(self, request, client_address):
    pass  # Clients go away, and are thrown out on purpose.


class Answered(Exception):
  """An answer that is not a file: status, JSON or text, and headers."""

  def __init__(self, status, body=None, headers=None):
    super().__init__(status)
    self.status, self.body, self.headers = status, body, headers or {}


def refusal(status, code, text):
  headers = {'X-Error-Code': code, 'X-Error-Message': text}
  return Answered(status, {'error': text}, headers)


class Handler(http.server.BaseHTTPRequestHandler):
  """One connection."""

  protocol_version = 'HTTP/1.1'
  server: Hub

  def log_message(self, *args):
    pass

  def do_GET(self):  # noqa: N802
    self.body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
    address = urllib.parse.urlsplit(self.path)
    path = urllib.parse.unquote(address.path)
    fault = self.server.fault_of(f'{self.command} {path}')
    self.cut = None
    try:
      if fault is not None:
        self.suffer(fault)
      for pattern, method in ROUTES:
        if found := re.fullmatch(pattern, path):
          return method(self, **found.groupdict())
      raise refusal(404, '', 'nothing is here')
    except Answered as answer:
      self.answer(answer)

  do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

  def suffer(self, fault):
    if fault.kind == 'status':
      text = 'Invalid credentials in Authorization header'
      said = text if fault.status == 401 else f'status {fault.status} on purpose'
      headers = {'X-Error-Message': said} | fault.headers
      raise Answered(fault.status, {'error': said}, headers)
    if fault.kind == 'hang':
      self.server.ended.wait()
      self.drop(reset=True)
    if fault.kind in ('reset', 'close'):
      self.drop(reset=fault.kind == 'reset')
    self.cut = fault

  def drop(self, reset):
    """Ends the connection without another word."""
    if reset:
      linger = struct.pack('ii', 1, 0)
      self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    self.close_connection = True
    self.connection.close()
    raise ConnectionAbortedError

  def info(self, kind, name, revision='main'):
    repository = self.readable(_KINDS[kind], name)
    commit = self.commit_of(repository, revision)
    files = repository.commits[commit]
    raise Answered(
      200,
      {
        'id': name,
        'sha': commit,
        'private': repository.readers is not None and not repository.gated,
        'gated': 'manual' if repository.gated else False,
        'tags': [],
        'siblings': [
          {'rfilename': n, 'size': len(d), 'blobId': blob_id(d)}
          for n, d in sorted(files.items())
        ],
      },
    )

  def file(self, name, revision, path, kind='models'):
    repository = self.readable(_KINDS[kind], name)
    if repository.gated and self.token() not in repository.readers:
      text = f'Access to {repository.kind} {name} is restricted.'
      raise refusal(403 if self.token() else 401, 'GatedRepo', text)
    commit = self.commit_of(repository, revision)
    headers = {'X-Repo-Commit': commit}
    if path not in repository.commits[commit]:
      raise refusal(404, 'EntryNotFound', f'{path} does not exist')
    data = repository.commits[commit][path]
    if not path.endswith(LARGE):
      return self.send(data, headers | {'ETag': f'"{blob_id(data)}"'})
    self.server.stored[sha256(data)] = data
    headers |= {'X-Linked-Etag': f'"{sha256(data)}"', 'X-Linked-Size': str(len(data))}
    raise Answered(
      302, '', headers | {'Location': f'{self.server.files_url}/store/{sha256(data)}'}
    )

  def stored(self, sha):
    if self.command == 'PUT':
      self.server.stored[sha] = self.body
      raise Answered(200, {})
    return self.send(self.server.stored[sha], {'ETag': f'"{sha}"'})

  def whoami(self):
    user = self.writer()
    auth = {'type': 'access_token', 'accessToken': {'role': 'write'}}
    raise Answered(200, {'type': 'user', 'name': user, 'auth': auth})

  def create(self):
    wanted = json.loads(self.body)
    owner = self.writer()
    name = wanted['name']
    if wanted.get('organization'):
      name = f'{wanted["organization"]}/{name}'
    if name.split('/')[0] != owner:
      raise refusal(403, '', f'no right to make a repository for {name.split("/")[0]}')
    key = (wanted.get('type', 'model'), name)
    if key in self.server.repositories:
      url = f'{self.server.url}/{name}'
      raise Answered(409, {'error': 'it is there already', 'url': url})
    made = self.server.repository(*key)
    open_to_all = wanted.get('private') is False or wanted.get('visibility') == 'public'
    made.readers = None if open_to_all else {self.token()}
    made.commit({'.gitattributes': b''})
    raise Answered(200, {'url': f'{self.server.url}/{name}', 'name': name})

  def validate(self):
    """The metadata of a card: YAML, and a base model that others can find."""
    content = json.loads(self.body)['content']
    found = yaml.safe_load(content.split('---')[1])
    errors = []
    if not re.fullmatch(r'[\w.-]+/[\w.-]+', found.get('base_model', 'a/b')):
      errors.append({'message': f'{found["base_model"]!r} is not a model id'})
    raise Answered(400 if errors else 200, {'errors': errors, 'warnings': []})

  def preupload(self, kind, name, revision):
    self.writer()
    files = json.loads(self.body)['files']
    mode = lambda path: 'lfs' if path.endswith(LARGE) else 'regular'
    found = [{'path': f['path'], 'uploadMode': mode(f['path'])} for f in files]
    raise Answered(200, {'files': [f | {'shouldIgnore': False} for f in found]})

  def lfs(self, name):
    self.writer()
    objects = []
    for one in json.loads(self.body)['objects']:
      href = f'{self.server.url}/store/{one["oid"]}'
      objects.append(one | {'actions': {'upload': {'href': href, 'header': {}}}})
    raise Answered(200, {'transfer': 'basic', 'objects': objects})

  def commit(self, kind, name, revision):
    self.writer()
    repository = self.readable(_KINDS[kind], name)
    files = dict(repository.commits.get(repository.branches.get('main'), {}))
    for line in self.body.decode().splitlines():
      entry = json.loads(line)
      value = entry['value']
      if entry['key'] == 'file':
        files[value['path']] = base64.b64decode(value['content'])
      if entry['key'] == 'lfsFile':
        files[value['path']] = self.server.stored[value['oid']]
    sha = repository.commit(files, revision)
    url = f'{self.server.url}/{name}/commit/{sha}'
    raise Answered(200, {'commitOid': sha, 'commitUrl': url, 'success': True})

  def token(self):
    return (self.headers.get('Authorization') or '').removeprefix('Bearer ')

  def readable(self, kind, name) -> Repository:
    """The repository, for who may see it."""
    self.known()
    repository = self.server.repositories.get((kind, name))
    hidden = repository and repository.readers is not None and not repository.gated
    if repository is None or (hidden and self.token() not in repository.readers):
      if self.token():
        raise refusal(404, 'RepoNotFound', 'Repository not found')
      raise refusal(401, 'RepoNotFound', 'Invalid username or password.')
    return repository

  def known(self):
    if self.token() and self.token() not in self.server.tokens:
      text = 'Invalid credentials in Authorization header'
      raise Answered(401, {'error': text}, {'X-Error-Message': text})

  def writer(self):
    """The user's name."""
    self.known()
    if not self.token():
      raise Answered(401, {'error': 'who are you?'})
    return self.server.tokens[self.token()]

  def commit_of(self, repository, revision):
    commit = repository.at(revision)
    if commit is None:
      raise refusal(404, 'RevisionNotFound', f'Invalid rev id: {revision}')
    return commit

  def send(self, data, headers):
    """A file, or the part of it that is asked for; or only some of that."""
    status, wanted = 200, self.headers.get('Range')
    if wanted:
      first, last = wanted.removeprefix('bytes=').split('-')
      stop = int(last) + 1 if last else len(data)
      where = f'bytes {first}-{stop - 1}/{len(data)}'
      headers = headers | {'Content-Range': where}
      status, data = 206, data[int(first) : stop]
    self.head(status, headers | {'Content-Length': str(len(data))})
    if self.command == 'HEAD':
      return
    if self.cut is None:
      self.wfile.write(data)
      return
    self.wfile.write(data[: self.cut.size])
    self.wfile.flush()
    self.drop(reset=self.cut.kind == 'cut')

  def answer(self, answer):
    body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
    kind = {} if answer.body == '' else {'Content-Type': 'application/json'}
    length = {'Content-Length': str(len(body.encode()))}
    self.head(answer.status, kind | length | answer.headers)
    if self.command != 'HEAD':
      self.wfile.write(body.encode())

  def head(self, status, headers):
    self.send_response(status)
    for name, value in headers.items():
      self.send_header(name, value)
    self.end_headers()


_NAME = r'(?P<name>[\w.-]+/[\w.-]+)'
_KIND = r'(?P<kind>models|datasets)'
ROUTES = (
  (r'/api/whoami-v2', Handler.whoami),
  (r'/api/repos/create', Handler.create),
  (r'/api/validate-yaml', Handler.validate),
  (rf'/api/{_KIND}/{_NAME}/preupload/(?P<revision>.+)', Handler.preupload),
  (rf'/api/{_KIND}/{_NAME}/commit/(?P<revision>.+)', Handler.commit),
  (rf'/{_NAME}\.git/info/lfs/objects/batch', Handler.lfs),
  (rf'/api/{_KIND}/{_NAME}/revision/(?P<revision>.+)', Handler.info),
  (rf'/api/{_KIND}/{_NAME}', Handler.info),
  (r'/store/(?P<sha>\w+)', Handler.stored),
  (rf'/{_KIND}/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)', Handler.file),
  (rf'/{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)', Handler.file),
)


@contextlib.contextmanager
def serve():
  """Runs a hub as long as the context lasts."""
  with Hub() as hub:
    threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True).start()
    try:
      yield hub
    finally:
      hub.ended.set()
      hub.shutdown()
