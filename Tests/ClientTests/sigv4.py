"""AWS Signature Version 4 and requests over a bare socket, written from the specification and sharing nothing with the
server or with any SDK: what is asked of the server here is what the specification says, byte for byte.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import base64
import datetime
import hashlib
import hmac
import http.client
import socket
import ssl
import time
import zlib

UNSIGNED = "UNSIGNED-PAYLOAD"
STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY = hashlib.sha256(b"").hexdigest()
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def encode(value, keep=b""):
    """Percent-encodes as AWS wants it: everything but the unreserved characters."""
    raw = value.encode() if isinstance(value, str) else value
    return "".join(chr(byte) if byte in UNRESERVED or byte in keep else f"%{byte:02X}" for byte in raw)


def encode_path(value):
    return encode(value, keep=b"/")


def encode_query(items):
    """A query string in canonical order; items are pairs of decoded names and values."""
    return "&".join(f"{name}={value}" for name, value in sorted((encode(n), encode(v)) for n, v in items))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def crc32(content):
    return base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()


def stamp(moment=None, skew=0):
    """The ISO date of a moment (default: now, moved by so many seconds)."""
    moment = moment or datetime.datetime.now(datetime.timezone.utc)
    return (moment + datetime.timedelta(seconds=skew)).strftime("%Y%m%dT%H%M%SZ")


class Signer:
    """One access key, in one region."""

    def __init__(self, access_key, secret, region="us-east-1", service="s3"):
        self.access_key, self.secret, self.region, self.service = access_key, secret, region, service

    def scope(self, date):
        return f"{date[:8]}/{self.region}/{self.service}/aws4_request"

    def key(self, date):
        key = b"AWS4" + self.secret.encode()
        for part in (date[:8], self.region, self.service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key

    def signature(self, date, canonical):
        text = f"AWS4-HMAC-SHA256\n{date}\n{self.scope(date)}\n{sha256(canonical.encode('latin-1'))}"
        return hmac.new(self.key(date), text.encode(), hashlib.sha256).hexdigest()

    def sign_text(self, date, text):
        return hmac.new(self.key(date), text.encode(), hashlib.sha256).hexdigest()

    @staticmethod
    def canonical(method, path, items, headers, signed, payload_hash):
        lines = []
        for name in signed:
            values = [" ".join(value.split()) for key, value in headers if key.lower() == name]
            lines.append(f"{name}:{','.join(values)}\n")
        return "\n".join([method, path, encode_query(items), "".join(lines), ";".join(signed), payload_hash])

    def sign(self, method, path, items, headers, payload_hash, date=None, unsigned=()):
        """Returns the headers with date, payload hash and Authorization; `path` is percent-encoded."""
        date = date or stamp()
        headers = [*headers]
        names = {name.lower() for name, _ in headers}
        if "x-amz-date" not in names and "date" not in names:
            headers.append(("x-amz-date", date))
        if "x-amz-content-sha256" not in names and payload_hash is not None:
            headers.append(("x-amz-content-sha256", payload_hash))
        never = {"connection", "expect", "user-agent", "transfer-encoding", "accept-encoding", *unsigned}
        signed = sorted({name.lower() for name, _ in headers} - never)
        signature = self.signature(date, self.canonical(method, path, items, headers, signed, payload_hash or EMPTY))
        headers.append(
            (
                "authorization",
                f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self.scope(date)}, "
                f"SignedHeaders={';'.join(signed)}, Signature={signature}",
            )
        )
        return headers

    def presign(self, method, path, host, items=(), expires=600, date=None, headers=(), payload_hash=UNSIGNED):
        """Returns the query string of a presigned URL."""
        date = date or stamp()
        headers = [("host", host), *headers]
        signed = sorted({name.lower() for name, _ in headers})
        items = [
            *items,
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.access_key}/{self.scope(date)}"),
            ("X-Amz-Date", date),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", ";".join(signed)),
        ]
        signature = self.signature(date, self.canonical(method, path, items, headers, signed, payload_hash))
        return f"{encode_query(items)}&X-Amz-Signature={signature}"

    def chunks(self, pieces, date, seed, trailers=None, signed=True, break_chunk=None, final=True):
        """An aws-chunked body. `break_chunk` is the number of the chunk whose signature is spoiled (-1: the trailer's)."""
        previous, out = seed, []
        for number, piece in enumerate([*pieces, b""] if final else pieces):
            extension = ""
            if signed:
                previous = self.sign_text(
                    date,
                    f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{self.scope(date)}\n{previous}\n{EMPTY}\n{sha256(piece)}",
                )
                shown = spoil(previous) if break_chunk == number else previous
                extension = f";chunk-signature={shown}"
            out.append(f"{len(piece):x}{extension}\r\n".encode() + piece + (b"\r\n" if piece else b""))
        if trailers is None:
            return b"".join(out) + b"\r\n"
        text = "".join(f"{name}:{value}\n" for name, value in trailers)
        out.append("".join(f"{name}:{value}\r\n" for name, value in trailers).encode())
        if signed:
            last = self.sign_text(
                date,
                f"AWS4-HMAC-SHA256-TRAILER\n{date}\n{self.scope(date)}\n{previous}\n{sha256(text.encode())}",
            )
            last = spoil(last) if break_chunk == -1 else last
            out.append(f"x-amz-trailer-signature:{last}\r\n".encode())
        return b"".join(out) + b"\r\n"


def spoil(signature):
    """The signature with its last digit changed."""
    return signature[:-1] + ("0" if signature[-1] != "0" else "1")


def signature_in(headers):
    """The signature that an Authorization header carries."""
    return next(value for name, value in headers if name == "authorization").rpartition("=")[2]


class Answer:
    """One response."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def header(self, name):
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def code(self):
        """The S3 error code in the body, if it is an error document."""
        start, end = self.body.find(b"<Code>"), self.body.find(b"</Code>")
        return self.body[start + 6 : end].decode() if 0 <= start < end else None

    def __repr__(self):
        return f"{self.status} {self.code or ''} {self.body[:400]!r}"


class Closed(Exception):
    """The server closed the connection without an answer."""


class Unbuffered:
    """The socket that an HTTPResponse reads from: takes no byte of the response after."""

    def __init__(self, connection):
        self.raw = connection.makefile("rb", 0)
        self.readline, self.close, self.flush = self.raw.readline, self.raw.close, self.raw.flush

    def makefile(self, *_):
        return self

    def read(self, count=-1):
        if count is None or count < 0:
            return self.raw.readall()
        pieces = []
        while count > 0 and (piece := self.raw.read(count)):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)


class Wire:
    """A connection on which anything may be sent."""

    def __init__(self, address, timeout=30, tls=False, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl._create_unverified_context()
            self.socket = context.wrap_socket(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, content):
        self.socket.sendall(content)

    def send_lenient(self, content):
        """Sends what the server takes: it may answer and close before it has read everything."""
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self, method="GET"):
        """Reads one final response."""
        response = http.client.HTTPResponse(Unbuffered(self.socket), method=method)
        try:
            response.begin()
            body = response.read()
        except (http.client.RemoteDisconnected, http.client.BadStatusLine, ConnectionError) as error:
            raise Closed(str(error)) from None
        except http.client.IncompleteRead as error:
            raise Closed(f"cut after {len(error.partial)} bytes of the body") from None
        return Answer(response.status, response.getheaders(), body)

    def receive_interim(self):
        """Reads the next status line and its header lines, without a body: '100 Continue' and the like."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = self.socket.recv(1)
            if not piece:
                raise Closed(f"after {raw!r}")
            raw += piece
        return raw.decode("latin-1")

    def is_closed(self, seconds=10):
        """Has the server closed this connection (waits for so long)?"""
        self.socket.settimeout(seconds)
        try:
            while True:
                if not self.socket.recv(65536):
                    return True
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def head(method, target, headers, version="HTTP/1.1"):
    """The bytes of a request's head; strings are Latin-1, so that every byte can be sent."""
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


class Service:
    """An endpoint with a key: builds, signs and sends requests."""

    def __init__(self, address, signer, tls=False):
        self.address, self.signer, self.tls = address, signer, tls
        self.host = f"{address[0]}:{address[1]}"

    def wire(self, **options):
        return Wire(self.address, tls=self.tls, **options)

    def build(
        self,
        method,
        path,
        items=(),
        headers=(),
        body=b"",
        payload=None,
        date=None,
        signer=None,
        sent_path=None,
        sent_query=None,
        unsigned=(),
        length=True,
    ):
        """The head of a signed request, with its headers. `path` is percent-encoded; `payload` its hash or mode."""
        headers = [("host", self.host), *headers]
        if length and body is not None and not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("content-length", str(len(body))))
        payload = payload if payload is not None else sha256(body or b"")
        headers = (signer or self.signer).sign(method, path, items, headers, payload, date=date, unsigned=unsigned)
        query = encode_query(items) if sent_query is None else sent_query
        target = (sent_path or path) + (f"?{query}" if query else "")
        return head(method, target, headers), headers

    def request(self, method, path, items=(), headers=(), body=b"", **options):
        """Signs, sends, receives on a connection of its own."""
        raw, _ = self.build(method, path, items, headers, body, **options)
        return self.exchange(raw + (body or b""), method)

    def exchange(self, raw, method="GET"):
        with self.wire() as wire:
            wire.send_lenient(raw)
            return wire.receive(method)

    def streaming(
        self,
        path,
        pieces,
        mode=STREAMING,
        headers=(),
        trailers=None,
        decoded=None,
        method="PUT",
        date=None,
        encoding="aws-chunked",
        seed=None,
        announce=None,
        body=None,
        **options,
    ):
        """An aws-chunked upload as raw bytes."""
        date = date or stamp()
        decoded = sum(map(len, pieces)) if decoded is None else decoded
        extra = [("content-encoding", encoding)] if encoding else []
        if decoded is not False:
            extra.append(("x-amz-decoded-content-length", str(decoded)))
        if trailers is not None and announce is not False:
            extra.append(("x-amz-trailer", announce or ",".join(name for name, _ in trailers)))
        signed = not mode.startswith("STREAMING-UNSIGNED")
        # The body's length does not depend on the signatures in it, so it is known before they are.
        draft = body if body is not None else self.signer.chunks(pieces, date, "0" * 64, trailers, signed, **options)
        extra.append(("content-length", str(len(draft))))
        raw, sent = self.build(method, path, headers=[*extra, *headers], body=None, payload=mode, date=date)
        if body is None:
            body = self.signer.chunks(pieces, date, seed or signature_in(sent), trailers, signed, **options)
        return raw + body


def wait_for(condition, what, seconds=60):
    """Waits for a condition and returns what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s in vain: {what}")
