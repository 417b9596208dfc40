"""AWS Signature Version 4, and a client on a bare socket that can be told to do it wrong.

Every part of a request can be overridden after it was signed, because the tests that use this want
exactly the requests that no honest client sends. Does not know what the answers should be.
"""

import datetime
import hashlib
import hmac
import socket
import urllib.parse
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()


def quote(text, slash: str = "/") -> str:
    """Percent-encoding as S3 wants it in a canonical request."""
    return urllib.parse.quote(text, safe="-_.~" + slash)


def signing_key(secret: str, day: str, region: str, service: str = "s3") -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


@dataclass
class Answer:
    """One HTTP answer; `status` is 0 when the server closed without one."""

    status: int
    headers: dict
    body: bytes

    @property
    def code(self) -> str:
        """The S3 error code in the body, or an empty string."""
        try:
            root = ElementTree.fromstring(self.body)
        except ElementTree.ParseError:
            return ""
        return next((e.text or "" for e in root.iter() if e.tag.rpartition("}")[2] == "Code"), "")

    def __str__(self) -> str:
        return f"{self.status} {self.code} {self.body[:300]!r}"


@dataclass
class Request:
    """A signed request, ready to be spoilt: change any field before `Wire.send`."""

    method: str
    path: str
    query: str
    headers: dict
    body: bytes
    signature: str = ""
    scope: str = ""
    stamp: str = ""
    key: bytes = b""
    host: str = ""
    extra: list = field(default_factory=list)

    def head(self) -> bytes:
        target = self.path + (f"?{self.query}" if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += self.extra
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n"


class Wire:
    """Signs for one identity and speaks to one endpoint, one connection a request unless told."""

    def __init__(self, endpoint: str, access: str, secret: str, region: str = "us-east-1"):
        parts = urllib.parse.urlsplit(endpoint)
        self.address = (parts.hostname, parts.port or 80)
        self.host = parts.netloc
        self.access, self.secret, self.region = access, secret, region

    def sign(self, method, path, query=(), headers=None, body=b"", *, payload=None, when=None,
             host=None, service="s3", length=True, access=None, secret=None) -> Request:
        """A correctly signed request. `path` is already encoded; `query` is pairs, not encoded."""
        when = when or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = when.strftime("%Y%m%dT%H%M%SZ"), when.strftime("%Y%m%d")
        payload = payload or hashlib.sha256(body).hexdigest()
        all_headers = {"host": host or self.host, "x-amz-date": stamp, "x-amz-content-sha256": payload}
        all_headers |= {k.lower(): v for k, v in (headers or {}).items()}
        encoded = "&".join(sorted(f"{quote(k, '')}={quote(v, '')}" for k, v in query))
        names = sorted(all_headers)
        canonical = "\n".join([
            method, path, encoded,
            *(f"{n}:{' '.join(str(all_headers[n]).split())}" for n in names), "",
            ";".join(names), payload])
        scope = f"{day}/{self.region}/{service}/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                          hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()])
        key = signing_key(secret or self.secret, day, self.region, service)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        all_headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={access or self.access}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}")
        if length and (body or method in ("PUT", "POST")):
            all_headers.setdefault("content-length", str(len(body)))
        return Request(method, path, encoded, all_headers, body, signature, scope, stamp, key,
                       all_headers["host"])

    def presign(self, method, path, query=(), expires=300, when=None, access=None, secret=None,
                headers=None) -> Request:
        """The same with the signature in the query, and no other header than Host signed."""
        when = when or datetime.datetime.now(datetime.timezone.utc)
        stamp, day = when.strftime("%Y%m%dT%H%M%SZ"), when.strftime("%Y%m%d")
        scope = f"{day}/{self.region}/s3/aws4_request"
        pairs = [*query, ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                 ("X-Amz-Credential", f"{access or self.access}/{scope}"), ("X-Amz-Date", stamp),
                 ("X-Amz-Expires", str(expires)), ("X-Amz-SignedHeaders", "host")]
        encoded = "&".join(sorted(f"{quote(k, '')}={quote(v, '')}" for k, v in pairs))
        canonical = "\n".join([method, path, encoded, f"host:{self.host}", "", "host", UNSIGNED])
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope,
                          hashlib.sha256(canonical.encode()).hexdigest()])
        signature = hmac.new(signing_key(secret or self.secret, day, self.region), text.encode(),
                             hashlib.sha256).hexdigest()
        return Request(method, path, f"{encoded}&X-Amz-Signature={signature}",
                       {"host": self.host, **(headers or {})}, b"", signature, scope, stamp)

    def send(self, request: Request, seconds: float = 20, half_close: bool = False) -> Answer:
        """Sends the request as it now stands and reads one answer."""
        return self.send_raw(request.head() + request.body, seconds, request.method, half_close)

    def send_raw(self, data: bytes, seconds: float = 20, method: str = "GET",
                 half_close: bool = False) -> Answer:
        """Bytes out, one answer back. A reset or an early close is an answer of status 0."""
        with socket.create_connection(self.address, seconds) as s:
            try:
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # The server may answer and close before it has read all: the answer counts.
            return read_answer(s, method)

    def call(self, method, path, query=(), headers=None, body=b"", **options) -> Answer:
        """Sign and send in one step."""
        return self.send(self.sign(method, path, query, headers, body, **options))

    def object(self, method, bucket, key, **options) -> Answer:
        return self.call(method, f"/{bucket}/{quote(key)}", **options)


def read_answer(s: socket.socket, method: str) -> Answer:
    """Reads one HTTP/1.1 answer, skipping 100 Continue."""
    stream = s.makefile("rb")
    try:
        while True:
            line = stream.readline(65536)
            if not line:
                return Answer(0, {}, b"")
            status = int(line.split()[1])
            headers = {}
            while (line := stream.readline(65536).strip()):
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.strip().lower()] = value.strip()
            if status != 100:
                break
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while (size := int(stream.readline().split(b";")[0] or b"0", 16)):
                body += stream.read(size)
                stream.readline()
            return Answer(status, headers, body)
        if "content-length" in headers:
            return Answer(status, headers, stream.read(int(headers["content-length"])))
        return Answer(status, headers, stream.read())
    except (OSError, ValueError, IndexError):
        return Answer(0, {}, b"")


def chunked(request: Request, chunks: list, *, trailers=(), signed: bool = True,
            trailer_signed: bool = False) -> bytes:
    """An aws-chunked body: `chunks` are byte strings, the closing empty one is added.

    Signed chunks form the chain that STREAMING-AWS4-HMAC-SHA256-PAYLOAD asks for, seeded by the
    request's own signature.
    """
    out, previous = [], request.signature
    for data in [*chunks, b""]:
        line = f"{len(data):x}"
        if signed:
            text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", request.stamp, request.scope, previous, EMPTY,
                              hashlib.sha256(data).hexdigest()])
            previous = hmac.new(request.key, text.encode(), hashlib.sha256).hexdigest()
            line += f";chunk-signature={previous}"
        out.append(line.encode() + b"\r\n" + (data + b"\r\n" if data else b""))
    for name, value in trailers:
        out.append(f"{name}:{value}\r\n".encode())
    if trailer_signed:
        listed = "".join(f"{name}:{value}\n" for name, value in trailers)
        text = "\n".join(["AWS4-HMAC-SHA256-TRAILER", request.stamp, request.scope, previous,
                          hashlib.sha256(listed.encode()).hexdigest()])
        out.append(b"x-amz-trailer-signature:"
                   + hmac.new(request.key, text.encode(), hashlib.sha256).hexdigest().encode() + b"\r\n")
    return b"".join(out) + b"\r\n"
