"""aws-chunked bodies with wrong signatures, wrong sizes, wrong trailers."""

import sigv4
from sigv4 import STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, crc32
from support import MIB, RawCase, needs_own_server, random_bytes

PIECES = [b"a" * 65536, b"b" * 65536, b"c" * 100]
CONTENT = b"".join(PIECES)
TRAILER = [("x-amz-checksum-crc32", crc32(CONTENT))]


class Signed(RawCase):
    def upload(self, pieces=PIECES, mode=STREAMING, **options):
        return self.service.exchange(self.service.streaming(self.path, pieces, mode, **options), "PUT")

    def refuse(self, status=(400, 403), code=None, **options):
        try:
            answer = self.upload(**options)
        except sigv4.Closed:
            self.assert_alive()
        else:
            self.assert_refused(answer, status, code)
        self.assert_absent()

    def test_right_ones_are_taken(self):
        self.assertEqual(self.upload().status, 200)
        self.assertEqual(self.get(self.name, "key"), CONTENT)
        self.assertEqual(self.upload([]).status, 200)
        self.assertEqual(self.get(self.name, "key"), b"")
        self.assertEqual(self.upload(mode=STREAMING_TRAILER, trailers=TRAILER).status, 200)
        self.assertEqual(self.upload(mode=UNSIGNED_TRAILER, trailers=TRAILER).status, 200)
        self.assertEqual(self.get(self.name, "key"), CONTENT)

    def test_a_tampered_chunk_leaves_nothing(self):
        for number in range(4):
            self.refuse(403, "SignatureDoesNotMatch", break_chunk=number)
        self.refuse(403, "SignatureDoesNotMatch", mode=STREAMING_TRAILER, trailers=TRAILER, break_chunk=2)

    def test_a_tampered_byte_leaves_nothing(self):
        raw = self.service.streaming(self.path, PIECES)
        answer = self.service.exchange(raw.replace(b"b" * 1000, b"x" + b"b" * 999, 1), "PUT")
        self.assert_refused(answer, 403, "SignatureDoesNotMatch")
        self.assert_absent()

    def test_a_chain_that_starts_elsewhere_leaves_nothing(self):
        self.refuse(403, "SignatureDoesNotMatch", seed="0" * 64)

    def test_chunks_in_another_order_leave_nothing(self):
        raw = self.service.streaming(self.path, PIECES)
        start = raw.index(b"10000;chunk-signature=")
        size = len(b"10000;chunk-signature=") + 64 + 2 + 65536 + 2
        first, second = raw[start : start + size], raw[start + size : start + 2 * size]
        answer = self.service.exchange(raw[:start] + second + first + raw[start + 2 * size :], "PUT")
        self.assert_refused(answer, 403, "SignatureDoesNotMatch")
        self.assert_absent()

    def test_a_wrong_trailer_signature_leaves_nothing(self):
        self.refuse(403, "SignatureDoesNotMatch", mode=STREAMING_TRAILER, trailers=TRAILER, break_chunk=-1)

    def test_a_missing_last_chunk_leaves_nothing(self):
        raw = self.service.streaming(self.path, PIECES, final=False)
        answer = self.assert_closed_or((400, 403), raw)
        self.assertNotEqual(answer and answer.status, 200)
        self.assert_absent()

    def test_a_decoded_length_that_is_wrong_leaves_nothing(self):
        for decoded in (0, len(CONTENT) - 1, len(CONTENT) + 1, 1 << 62):
            self.refuse((400, 403), decoded=decoded)

    def test_a_decoded_length_is_needed_and_must_be_a_number(self):
        self.refuse((400, 411), decoded=False)
        for decoded in ("-1", "x", "", "1e3", "99999999999999999999", "0x10"):
            self.refuse((400, 411), decoded=decoded)

    def test_unsigned_chunks_in_a_signed_body_leave_nothing(self):
        body = b"3\r\nabc\r\n0\r\n\r\n"
        self.refuse((400, 403), pieces=[b"abc"], body=body)

    def test_a_signed_trailer_is_needed_when_announced(self):
        body = self.service.signer.chunks([b"abc"], sigv4.stamp(), "0" * 64, None, True)
        self.refuse((400, 403), pieces=[b"abc"], mode=STREAMING_TRAILER, trailers=TRAILER, body=body)


class Unsigned(RawCase):
    def refuse(self, body, decoded=3, announce="x-amz-checksum-crc32", status=(400, 403, 501)):
        raw = self.service.streaming(
            self.path,
            [b"abc"],
            UNSIGNED_TRAILER,
            body=body,
            decoded=decoded,
            trailers=[("x-amz-checksum-crc32", crc32(b"abc"))],
            announce=announce,
        )
        self.assert_closed_or(status, raw)
        self.assert_absent()

    def test_chunk_sizes_that_are_none(self):
        for size in (
            b"",
            b"x",
            b"-3",
            b"+3",
            b"0x3",
            b" 3",
            b"3 ",
            b"3" * 40,
            b"ffffffffffffffff",
            b"8000000000000000",
            b"7fffffffffffffff",
            b"4",
            b"2",
            b"\x00",
            b"3\x00",
        ):
            with self.subTest(size=size):
                self.refuse(size + b"\r\nabc\r\n0\r\nx-amz-checksum-crc32:" + crc32(b"abc").encode() + b"\r\n\r\n")

    def test_broken_framing(self):
        for body in (
            b"3\nabc\n0\n\n",
            b"3\r\nabcX0\r\n\r\n",
            b"3\r\nabc",
            b"3\r\nabc\r\n",
            b"",
            b"3",
            b"abc",
            b"3\r\nabc\r\n0",
            b"3\r\nabc\r\n0\r\n",
        ):
            with self.subTest(body=body):
                raw = self.service.streaming(
                    self.path,
                    [b"abc"],
                    UNSIGNED_TRAILER,
                    body=body,
                    decoded=3,
                    trailers=[("x-amz-checksum-crc32", crc32(b"abc"))],
                )
                self.assert_closed_or((400, 403), raw)
                self.assert_absent()

    def test_long_extensions_are_refused(self):
        self.refuse(b"3;x=" + b"y" * 200_000 + b"\r\nabc\r\n0\r\n\r\n")

    def test_trailers_that_are_none(self):
        start = b"3\r\nabc\r\n0\r\n"
        good = b"x-amz-checksum-crc32:" + crc32(b"abc").encode() + b"\r\n"
        for trailer in (
            b"no colon\r\n\r\n",
            b"x" * 100_000 + b":y\r\n\r\n",
            b"x:y\r\n" * 5000 + b"\r\n",
            b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n",
            b"x-amz-checksum-crc32:nonsense\r\n\r\n",
            b"x-amz-checksum-crc32:\r\n\r\n",
            b"content-length:5\r\n\r\n",
            b"x-amz-checksum-sha256:" + b"A" * 44 + b"\r\n\r\n",
            b"\x00:\x00\r\n\r\n",
            b"\r\n",
            good + good.replace(b":", b":x") + b"\r\n",
        ):
            with self.subTest(trailer=trailer[:40]):
                self.refuse(start + trailer)

    def test_trailers_that_can_not_be_kept_are_refused_when_announced(self):
        for name in ("content-length", "x-amz-meta-a", "authorization", "x-amz-checksum-md9"):
            self.refuse(b"3\r\nabc\r\n0\r\n" + name.encode() + b":x\r\n\r\n", announce=name)


class Bombs(RawCase):
    def test_a_body_of_tiny_chunks_is_refused(self):
        raw = self.service.streaming(self.path, [b"x"] * 20_000)
        answer = self.assert_closed_or((400, 403), raw)
        if answer:
            self.assertIn(answer.code, ("InvalidChunkSizeError", "InvalidRequest", "IncompleteBody", "InvalidArgument"))
        self.assert_absent()

    def test_chunks_of_any_decent_size_are_taken(self):
        for size in (8192, 65536, 100_000, MIB):
            content = random_bytes(3 * MIB + 5, size)
            pieces = [content[at : at + size] for at in range(0, len(content), size)]
            answer = self.service.exchange(self.service.streaming(self.path, pieces), "PUT")
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(self.get(self.name, "key"), content)

    @needs_own_server
    def test_a_chunk_that_promises_much_takes_no_memory(self):
        before = self.server.resident_bytes()
        for _ in range(20):
            body = b"40000000;chunk-signature=" + b"0" * 64 + b"\r\n" + b"x" * 100_000
            raw = self.service.streaming(self.path, [b"x"], body=body, decoded=0x40000000)
            with self.service.wire() as wire:
                wire.send_lenient(raw)
        self.assertLess(self.server.resident_bytes() - before, 60 * MIB)
        self.assert_alive()
