"""A client of the server under test: signed requests on a connection that is kept, and what became of each."""

import base64
import datetime
import hashlib
import http.client
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape

import victim
from victim import sigv4

TIMEOUT = 30
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class NotSent(Exception):
    """There is no connection: the request has certainly not been performed."""


class NoAnswer(Exception):
    """The request was sent, or a part of it, and no whole answer came."""


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __getitem__(self, name):
        return self.headers.get(name)

    @property
    def code(self):
        start, end = self.body.find(b"<Code>"), self.body.find(b"</Code>")
        return self.body[start + 6 : end].decode() if 0 <= start < end else None

    @property
    def etag(self):
        return (self["etag"] or "").strip('"')

    def xml(self):
        return ElementTree.fromstring(self.body)

    def __repr__(self):
        return f"{self.status} {self.code or ''} {self.body[:300]!r}"


class Client:
    def __init__(self, store):
        self.store = store
        self.signer = sigv4.Signer(victim.ACCESS_KEY, victim.SECRET_KEY)
        self.connection, self.life = None, -1
        self.host = f"{store.address[0]}:{store.address[1]}"

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def connect(self):
        if self.connection is None or self.life != self.store.life:
            self.close()
            self.life = self.store.life
            fresh = http.client.HTTPConnection(*self.store.address, timeout=TIMEOUT)
            try:
                fresh.connect()
            except OSError as error:
                raise NotSent(str(error)) from None
            self.connection = fresh

    def call(self, method, path, items=(), headers=(), body=b""):
        self.connect()
        # The client's clock goes with the server's, as it would on one machine.
        now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.store.offset)
        payload = hashlib.sha256(body).hexdigest()
        signed = self.signer.sign(
            method, sigv4.encode_path(path), items, [("host", self.host), *headers], payload, date=sigv4.stamp(now)
        )
        target = sigv4.encode_path(path) + (f"?{sigv4.encode_query(items)}" if items else "")
        try:
            self.connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in signed:
                self.connection.putheader(name, value)
            self.connection.putheader("content-length", str(len(body)))
            self.connection.endheaders(body or None)
            response = self.connection.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswer(f"{type(error).__name__}: {error}") from None
        if (found.get("connection") or "").lower() == "close":
            self.close()
        return Answer(response.status, found, content)


def pages(client, path, items, token_names):
    """All pages of a listing, as parsed documents."""
    more = []
    while True:
        answer = client.call("GET", path, [*items, *more])
        if answer.status != 200:
            raise NoAnswer(repr(answer))
        document = answer.xml()
        yield document
        if document.findtext(f"{NAMESPACE}IsTruncated") != "true":
            return
        more = [(name, document.findtext(f"{NAMESPACE}{element}") or "") for name, element in token_names]


def list_keys(client, bucket, prefix):
    found = []
    for page in pages(
        client, f"/{bucket}", [("list-type", "2"), ("prefix", prefix)], [("continuation-token", "NextContinuationToken")]
    ):
        found += [entry.findtext(f"{NAMESPACE}Key") for entry in page.iter(f"{NAMESPACE}Contents")]
    return found


def list_versions(client, bucket, prefix):
    """(key, version id, is it a delete marker, ETag, date) of every version, as listed: newest first within a key."""
    found = []
    names = [("key-marker", "NextKeyMarker"), ("version-id-marker", "NextVersionIdMarker")]
    for page in pages(client, f"/{bucket}", [("versions", ""), ("prefix", prefix)], names):
        for entry in page:
            if entry.tag in (f"{NAMESPACE}Version", f"{NAMESPACE}DeleteMarker"):
                text = lambda name: entry.findtext(f"{NAMESPACE}{name}")  # noqa: E731
                found.append(
                    (text("Key"), text("VersionId"), entry.tag.endswith("DeleteMarker"), (text("ETag") or "").strip('"'), text("LastModified"))
                )
    return found


def list_uploads(client, bucket, prefix):
    """(key, upload id) of every upload in parts that is neither completed nor aborted."""
    found = []
    names = [("key-marker", "NextKeyMarker"), ("upload-id-marker", "NextUploadIdMarker")]
    for page in pages(client, f"/{bucket}", [("uploads", ""), ("prefix", prefix)], names):
        for entry in page.iter(f"{NAMESPACE}Upload"):
            found.append((entry.findtext(f"{NAMESPACE}Key"), entry.findtext(f"{NAMESPACE}UploadId")))
    return found


def remove_versions(client, bucket, versions):
    """Removes (key, version id) pairs for good."""
    for start in range(0, len(versions), 250):
        objects = "".join(
            f"<Object><Key>{escape(key)}</Key><VersionId>{version}</VersionId></Object>" for key, version in versions[start : start + 250]
        )
        body = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
        checksum = base64.b64encode(hashlib.md5(body).digest()).decode()
        answer = expect(client.call("POST", f"/{bucket}", [("delete", "")], [("content-md5", checksum)], body), 200)
        if answer.xml().findall(f"{NAMESPACE}Error"):
            raise victim.Violation(f"versions that can not be removed: {answer!r}")


def expect(answer, status):
    """The answer, which must have this status."""
    if answer.status != status:
        raise victim.Violation(f"{answer!r} where {status} was due")
    return answer
