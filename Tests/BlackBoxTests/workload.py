"""Many clients at work on a few keys, and a record of what each of them asked for and was told.

Three kinds of keys, each checked in its own way:

    reg/…   written, overwritten, written under conditions, put in parts, copied to, deleted and read: linearizable
    set/…   written once and never touched again: never lost, always listed
    ver/…   written, and single versions of them removed for good: what is listed is what should be there

There is a bucket without versions ("plain") and one with them ("kept"). Every write has a name, which it carries as metadata;
its content follows from its content's name. Some contents are shared by many writes.
"""

import dataclasses
import hashlib
import itertools
import random
import threading
import time

import linear
import s3
from linear import FAILED, FOREVER, OK, UNKNOWN, Call
from victim import Violation

MIB = 1 << 20
REGISTERS = 5
META = "x-amz-meta-write"
CONTENT = "x-amz-meta-content"


def content_of(name):
    """The bytes of a content; its name holds its size."""
    size = int(name.rpartition("~")[2])
    head = f"{name}\n".encode()
    return (head + random.Random(name).randbytes(max(0, size - len(head))))[:size] if size else b""


class Contents:
    """Remembers hashes, and the bytes of those that are not large."""

    def __init__(self):
        self.lock = threading.Lock()
        self.hashes = {}

    def of(self, name):
        content = content_of(name)
        with self.lock:
            if name not in self.hashes:
                self.hashes[name] = (hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest())
        return content

    def etag(self, name):
        if name not in self.hashes:
            self.of(name)
        return self.hashes[name][1]


class Round:
    """What is known of the keys of one round: the record of all calls."""

    def __init__(self, number):
        self.number = number
        self.lock = threading.Lock()
        self.calls = {}  # (bucket, key) -> [Call]
        self.etags = {}  # write -> the ETag of what it wrote
        self.contents = {}  # write -> name of its content
        self.versions = {}  # (bucket, key) -> {write: version id}, as answered
        self.attempted = {}  # (bucket, key) -> {write: (start, end)}
        self.refused = set()  # writes that were certainly not performed
        self.acknowledged = {}  # set/ keys: (bucket, key) -> (write, moment of the answer)
        self.tried = {}  # set/ keys: (bucket, key) -> write
        self.removals = {}  # (bucket, key, version id) -> outcome
        self.markers = {}  # (bucket, key) -> [sure, unsure] delete markers
        self.problems = []
        self.counts = {}

    def add(self, place, call):
        with self.lock:
            self.calls.setdefault(place, []).append(call)

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, text):
        with self.lock:
            self.problems.append(text)

    def registers(self):
        return [(bucket, f"reg/{self.number}/{n}") for bucket in ("plain", "kept") for n in range(REGISTERS)]


def now():
    return time.monotonic()


class Worker(threading.Thread):
    """One client. What it does follows from the seed and its number; when, from how fast it is answered."""

    def __init__(self, campaign, number, record, seed):
        super().__init__(daemon=True)
        self.campaign, self.number, self.record = campaign, number, record
        self.chance = random.Random(f"{seed}/{record.number}/{number}")
        self.client = s3.Client(campaign.store)
        self.names = itertools.count(1)
        self.known = {}  # register -> the ETag that it had when last seen
        self.mine = []  # (bucket, key, version id) of ver/ keys
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        actions = [
            (self.read, 30), (self.put, 18), (self.put_if, 14), (self.put_new, 8), (self.delete, 9), (self.read_range, 4),
            (self.copy, 5), (self.in_parts, 7), (self.add_to_set, 10), (self.list_set, 2), (self.put_version, 6),
            (self.read_version, 8), (self.remove_version, 3), (self.delete_if, 3),
        ]
        chosen, weights = zip(*actions)
        try:
            while not self.stopping.is_set():
                if self.campaign.rests.is_set():
                    self.stopping.wait(0.01)
                    continue
                action = self.chance.choices(chosen, weights)[0]
                try:
                    action()
                except s3.NotSent:
                    self.record.count("not sent")
                    self.stopping.wait(0.01)
                    continue
                self.campaign.did_something()
        except Exception as error:  # noqa: BLE001: whatever it is, the campaign ends with it
            self.failure = error
        finally:
            self.client.close()

    # Choices

    def register(self):
        return self.chance.choice(self.record.registers())

    def write_name(self):
        return f"{self.record.number}.{self.number}.{next(self.names)}"

    def size(self):
        pick = self.chance.random()
        if pick < 0.05:
            return 0
        if pick < 0.80:
            return self.chance.randrange(1, 3000)
        if pick < 0.97:
            return self.chance.randrange(3000, 200_000)
        return self.chance.randrange(MIB, 2 * MIB)

    def content(self, write, shared=True):
        """The content's name for a write: its own, or now and then one that others write too."""
        if shared and self.chance.random() < 0.15:
            number = self.chance.randrange(12)
            return f"shared{number}~{(number % 4) * 90_000 + 700}"
        return f"{write}~{self.size()}"

    # Asking

    def ask(self, method, place, items=(), headers=(), body=b""):
        """(start, end, answer); the answer is None when none came."""
        start = now()
        try:
            answer = self.client.call(method, f"/{place[0]}/{place[1]}", items, headers, body)
        except s3.NoAnswer:
            self.record.count("no answer")
            return start, now(), None
        if answer.status >= 500:
            self.record.count(f"{answer.status}")
            self.campaign.was_refused(answer)
        return start, now(), answer

    def unexpected(self, what, place, answer):
        self.record.problem(f"{what} of {'/'.join(place)}: unexpected answer {answer!r}")

    def write(self, kind, place, headers=(), expected=frozenset(), send=None, shared=True, etag=None):
        """Performs a write and records it."""
        name = self.write_name()
        content = self.content(name, shared)
        record = self.record
        with record.lock:
            record.etags[name] = etag or self.campaign.contents.etag(content)
            record.contents[name] = content
            record.attempted.setdefault(place, {})[name] = (now(), FOREVER)
        body = self.campaign.contents.of(content)
        marks = [(META, name), (CONTENT, content), *headers]
        start, end, answer = (send or self.send)(place, marks, body)
        if answer is None or answer.status >= 500:
            record.add(place, Call(start, FOREVER, kind, name, UNKNOWN, expected, self.who()))
            return None
        if answer.status == 200:
            record.count(f"{kind} done")
            record.add(place, Call(start, end, kind, name, OK, expected, self.who()))
            with record.lock:
                record.attempted[place][name] = (start, end)
                if place[0] == "kept":
                    version = answer["x-amz-version-id"]
                    if not version:
                        record.problems.append(f"no version id for {name} on {place}")
                    record.versions.setdefault(place, {})[name] = version
            self.known[place] = record.etags[name]
            return name
        with record.lock:
            record.refused.add(name)
        conditional = {"write-if": (412, 404, 409), "write-new": (412, 409)}.get(kind, ())
        if answer.status == 409 and answer.status in conditional:
            record.count("conflict")
        elif answer.status in conditional:
            record.count(f"{kind} refused")
            record.add(place, Call(start, end, kind, name, FAILED, expected, self.who()))
        elif answer.code == "RequestTimeTooSkewed":
            record.count("skewed")
        elif answer.code == "NoSuchUpload":
            record.count("upload gone")
        else:
            self.unexpected(kind, place, answer)
        return None

    def who(self):
        return f"client {self.number}"

    def send(self, place, headers, body):
        return self.ask("PUT", place, (), headers, body)

    # Registers

    def put(self):
        self.write("write", self.register())

    def put_if(self):
        place = self.register()
        etag = self.known.get(place)
        if etag is None:
            return self.read(place)
        self.write("write-if", place, [("if-match", f'"{etag}"')], EtagSet(self.record, etag))

    def put_new(self):
        self.write("write-new", self.register(), [("if-none-match", "*")])

    def delete(self, place=None, headers=(), kind="remove", expected=frozenset()):
        place = place or self.register()
        start, end, answer = self.ask("DELETE", place, (), headers)
        record = self.record
        with record.lock:
            markers = record.markers.setdefault(place, [0, 0])
            if answer is None or answer.status >= 500:
                markers[1] += 1
            elif answer.status == 204:
                markers[0] += 1
        if answer is None or answer.status >= 500:
            record.add(place, Call(start, FOREVER, kind, None, UNKNOWN, expected, self.who()))
        elif answer.status == 204:
            record.add(place, Call(start, end, kind, None, OK, expected, self.who()))
        elif answer.status in (412, 404) and kind == "remove-if":
            record.add(place, Call(start, end, kind, None, FAILED, expected, self.who()))
        elif answer.code != "RequestTimeTooSkewed":
            self.unexpected("DELETE", place, answer)

    def delete_if(self):
        place = self.register()
        etag = self.known.get(place)
        if etag is not None:
            self.delete(place, [("if-match", f'"{etag}"')], "remove-if", EtagSet(self.record, etag))

    def copy(self):
        """A server-side copy of one register to another: a write of what the source held."""
        source, place = self.register(), self.register()
        if source == place:
            return
        name, record = self.write_name(), self.record
        with record.lock:
            record.attempted.setdefault(place, {})[name] = (now(), FOREVER)
            record.contents[name] = None
        start, end, answer = self.ask(
            "PUT",
            place,
            (),
            [("x-amz-copy-source", f"/{source[0]}/{source[1]}"), ("x-amz-metadata-directive", "REPLACE"), (META, name)],
        )
        if answer is None or answer.status >= 500:
            record.add(place, Call(start, FOREVER, "write", name, UNKNOWN, frozenset(), self.who()))
            return
        with record.lock:
            if answer.status != 200 or b"<Error>" in answer.body:
                record.refused.add(name)
        if answer.status == 200 and b"<CopyObjectResult" in answer.body:
            etag = answer.xml().findtext(f"{s3.NAMESPACE}ETag").strip('"')
            with record.lock:
                record.etags[name] = etag
                record.attempted[place][name] = (start, end)
                if place[0] == "kept":
                    record.versions.setdefault(place, {})[name] = answer["x-amz-version-id"]
            record.count("copy done")
            record.add(place, Call(start, end, "write", name, OK, frozenset(), self.who()))
            self.known[place] = etag
        elif answer.status == 404:
            record.add(source, Call(start, end, "read", None, OK, frozenset(), self.who()))
        elif answer.code != "RequestTimeTooSkewed":
            self.unexpected("copy", place, answer)

    def in_parts(self):
        """An upload in parts; sometimes its completion and its abort, or two completions, are sent at the same time."""
        place = self.register()
        pieces = 2 if self.chance.random() < 0.08 else 1
        way = self.chance.choices(("complete", "abort", "race", "twice"), (6, 1, 3, 2))[0]
        name, record = self.write_name(), self.record
        contents = [f"{name}-{n}~{5 * MIB if n + 1 < pieces else self.size()}" for n in range(pieces)]
        bodies = [self.campaign.contents.of(content) for content in contents]
        content = "+".join(contents)
        digests = b"".join(hashlib.md5(body).digest() for body in bodies)
        etag = f"{hashlib.md5(digests).hexdigest()}-{pieces}"
        answer = self.ask("POST", place, [("uploads", "")], [(META, name), (CONTENT, content)])[2]
        if answer is None or answer.status != 200:
            return
        upload = answer.xml().findtext(f"{s3.NAMESPACE}UploadId")
        for number, body in enumerate(bodies, 1):
            answer = self.ask("PUT", place, [("partNumber", str(number)), ("uploadId", upload)], (), body)[2]
            if answer is None or answer.status != 200:
                return
        listed = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{hashlib.md5(body).hexdigest()}"</ETag></Part>'
            for number, body in enumerate(bodies, 1)
        )
        finish = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        with record.lock:
            record.etags[name], record.contents[name] = etag, content
            record.attempted.setdefault(place, {})[name] = (now(), FOREVER)
        answers = []

        def ask(method, body=b""):
            client = s3.Client(self.campaign.store)
            start = now()
            try:
                answers.append((method, start, client.call(method, f"/{place[0]}/{place[1]}", [("uploadId", upload)], (), body), now()))
            except s3.NotSent:
                answers.append((method, start, "not sent", now()))
            except s3.NoAnswer:
                answers.append((method, start, None, now()))
            finally:
                client.close()

        requests = {
            "complete": [("POST", finish)], "abort": [("DELETE", b"")], "race": [("POST", finish), ("DELETE", b"")],
            "twice": [("POST", finish), ("POST", finish)],
        }[way]
        threads = [threading.Thread(target=ask, args=request, daemon=True) for request in requests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.judge_parts(place, name, etag, way, answers)

    def judge_parts(self, place, name, etag, way, answers):
        record = self.record
        done, unsure, aborted = [], [], []
        for method, start, answer, end in answers:
            if answer == "not sent":
                continue
            if answer is None or answer.status >= 500:
                if method == "POST":
                    unsure.append(start)
            elif method == "DELETE":
                if answer.status == 204:
                    aborted.append(answer)
                elif answer.status != 404 and answer.code != "RequestTimeTooSkewed":
                    self.unexpected("abort", place, answer)
            elif answer.status == 200 and b"<Error>" not in answer.body:
                done.append((start, end, answer))
                told = answer.xml().findtext(f"{s3.NAMESPACE}ETag").strip('"')
                if told != etag:
                    record.problem(f"{name}: completed with ETag {told} instead of {etag}")
            elif answer.status == 200:
                if answer.code in ("NoSuchUpload",):
                    continue
                unsure.append(start)
            elif answer.status not in (404,) and answer.code != "RequestTimeTooSkewed":
                self.unexpected("complete", place, answer)
        if done and aborted:
            record.problem(f"{name}: an upload was both completed and aborted")
        versions = {answer["x-amz-version-id"] for _, _, answer in done}
        if len(versions) > 1:
            record.problem(f"{name}: one upload was completed as two versions: {versions}")
        if done:
            record.count(f"parts {way} done")
            start, end = min(start for start, _, _ in [*done, *[(s, 0, 0) for s in unsure]]), min(end for _, end, _ in done)
            record.add(place, Call(start, end, "write", name, OK, frozenset(), self.who()))
            with record.lock:
                record.attempted[place][name] = (start, end)
                if place[0] == "kept":
                    record.versions.setdefault(place, {})[name] = done[0][2]["x-amz-version-id"]
            self.known[place] = etag
        elif unsure and not aborted:
            record.add(place, Call(min(unsure), FOREVER, "write", name, UNKNOWN, frozenset(), self.who()))
        elif not unsure:
            with record.lock:
                record.refused.add(name)
        else:
            # The abort was answered: the completion did not take place.
            with record.lock:
                record.refused.add(name)

    # Reading

    def verify_body(self, place, answer, first=0, last=None):
        """Are the bytes those of the write that the answer names? Returns the write's name."""
        record = self.record
        name = answer[META]
        if name is None:
            record.problem(f"{'/'.join(place)}: read something that nobody wrote: {answer!r}")
            return None
        content = answer[CONTENT]
        with record.lock:
            content = content or record.contents.get(name)
        if content is None:
            # A copy: its content is known by the ETag of its source.
            whole = self.campaign.content_with(record, answer.etag)
            if whole is None:
                record.problem(f"{'/'.join(place)}: {name} has the ETag {answer.etag} that nothing has")
                return name
        else:
            whole = b"".join(self.campaign.contents.of(part) for part in content.split("+"))
        expected = whole if last is None else whole[first : last + 1]
        if answer.body != expected:
            record.problem(
                f"{'/'.join(place)}: wrong bytes for {name} ({content}): {len(answer.body)} instead of {len(expected)}, "
                f"ETag {answer.etag}"
            )
        with record.lock:
            told = record.etags.get(name)
            if told is None:
                record.etags[name] = answer.etag
            elif told != answer.etag:
                record.problems.append(f"{'/'.join(place)}: {name} has the ETag {answer.etag} instead of {told}")
        return name

    def read(self, place=None):
        place = place or self.register()
        start, end, answer = self.ask("GET", place)
        if answer is None or answer.status >= 500 or answer.code == "RequestTimeTooSkewed":
            return False
        if answer.status == 404:
            self.known.pop(place, None)
            self.record.add(place, Call(start, end, "read", None, OK, frozenset(), self.who()))
        elif answer.status == 200:
            name = self.verify_body(place, answer)
            if name is not None:
                self.record.count("read")
                self.record.add(place, Call(start, end, "read", name, OK, frozenset(), self.who()))
                self.known[place] = answer.etag
        else:
            self.unexpected("GET", place, answer)
        return True

    def read_range(self):
        place = self.register()
        first = self.chance.randrange(2000)
        last = first + self.chance.randrange(100_000)
        start, end, answer = self.ask("GET", place, (), [("range", f"bytes={first}-{last}")])
        if answer is not None and answer.status == 206:
            name = self.verify_body(place, answer, first, last)
            if name is not None:
                self.record.add(place, Call(start, end, "read", name, OK, frozenset(), self.who()))
        elif answer is not None and answer.status == 404:
            self.record.add(place, Call(start, end, "read", None, OK, frozenset(), self.who()))
        elif answer is not None and answer.status not in (416,) and answer.status < 500 and answer.code != "RequestTimeTooSkewed":
            self.unexpected("range", place, answer)

    # Sets

    def add_to_set(self):
        name, record = self.write_name(), self.record
        place = (self.chance.choice(("plain", "kept")), f"set/{record.number}/{self.number}/{name}")
        content = self.content(name)
        body = self.campaign.contents.of(content)
        with record.lock:
            record.contents[name] = content
            record.etags[name] = self.campaign.contents.etag(content)
            record.tried[place] = name
        _, end, answer = self.ask("PUT", place, (), [(META, name), (CONTENT, content)], body)
        if answer is not None and answer.status == 200:
            with record.lock:
                record.acknowledged[place] = (name, end)
        elif answer is not None and answer.status < 500 and answer.code != "RequestTimeTooSkewed":
            self.unexpected("PUT", place, answer)

    def list_set(self):
        record = self.record
        bucket = self.chance.choice(("plain", "kept"))
        prefix = f"set/{record.number}/{self.chance.randrange(self.campaign.clients)}/"
        with record.lock:
            due = {key for (where, key) in record.acknowledged if where == bucket and key.startswith(prefix)}
        try:
            found = s3.list_keys(self.client, bucket, prefix)
        except s3.NoAnswer:
            return
        with record.lock:
            known = {key for (where, key) in record.tried if where == bucket}
        if missing := due - set(found):
            record.problem(f"a listing of {bucket}/{prefix} lacks {sorted(missing)[:5]}, acknowledged before it began")
        if strange := set(found) - known:
            record.problem(f"a listing of {bucket}/{prefix} holds {sorted(strange)[:5]}, which nobody put")
        if found != sorted(found):
            record.problem(f"a listing of {bucket}/{prefix} is out of order")
        record.count("list")

    # Versions

    def put_version(self):
        place = ("kept", f"ver/{self.record.number}/{self.number}/{self.chance.randrange(3)}")
        name = self.write("write", place)
        if name is not None:
            self.mine.append((place, self.record.versions[place][name], name))

    def read_version(self):
        if not self.mine:
            return
        place, version, name = self.chance.choice(self.mine)
        _, _, answer = self.ask("GET", place, [("versionId", version)])
        if answer is None or answer.status >= 500 or answer.code == "RequestTimeTooSkewed":
            return
        if answer.status != 200:
            self.record.problem(f"{'/'.join(place)}: the acknowledged version {version} ({name}) is gone: {answer!r}")
        elif self.verify_body(place, answer) != name:
            self.record.problem(f"{'/'.join(place)}: version {version} is {answer[META]} instead of {name}")

    def remove_version(self):
        if not self.mine:
            return
        place, version, name = self.mine.pop(self.chance.randrange(len(self.mine)))
        _, _, answer = self.ask("DELETE", place, [("versionId", version)])
        sure = answer is not None and answer.status == 204
        with self.record.lock:
            self.record.removals[(*place, version)] = OK if sure else UNKNOWN
        if answer is not None and answer.status < 500 and not sure and answer.code != "RequestTimeTooSkewed":
            self.unexpected("DELETE of a version", place, answer)


class EtagSet(frozenset):
    """All writes that have an ETag; filled in when the round is judged, when the ETags of copies are known too."""

    def __new__(cls, record, etag):
        made = super().__new__(cls, (f"etag {etag}",))
        made.record, made.etag = record, etag
        return made

    def resolved(self):
        return frozenset(name for name, etag in self.record.etags.items() if etag == self.etag)


def resolve(call):
    if isinstance(call.expected, EtagSet):
        return dataclasses.replace(call, expected=call.expected.resolved())
    return call


__all__ = ["Contents", "Round", "Violation", "Worker", "resolve"]
