"""Keys and metadata of every byte; names that try to be paths."""

import sigv4
from support import RawCase

HOSTILE = [
    "..",
    "../x",
    "../../../../etc/passwd",
    "a/../../b",
    "%2e%2e/x",
    "..%2fx",
    "/etc/passwd",
    "//x",
    "a//b",
    "a/./b",
    "\\..\\x",
    "C:\\x",
    "CON",
    "a\u2215b",
    "\ufeffx",
    "\u202ex",
    "x" * 1024,
    "master.key",
    "store.json",
    "volumes/0/x",
    ".",
    "./",
    "/",
    "~/x",
    "$(x)",
    "`x`",
    "a;b",
    "a|b",
    "-rf",
    "<script>",
    "]]>",
    "&amp;",
    "'",
    '"',
    "?versionId=x",
    "#x",
    "a b",
    " ",
    "  x ",
]


class Keys(RawCase):
    def test_every_byte_in_a_key_is_kept_or_refused(self):
        kept = []
        for byte in range(256):
            path = f"/{self.name}/a%{byte:02X}b"
            if byte in sigv4.UNRESERVED or byte == 0x2F:
                # Canonically this byte is not encoded: the signature is of the plain character.
                continue
            answer = self.send("PUT", path, body=bytes([byte]))
            with self.subTest(byte=byte):
                if byte >= 0x80:
                    self.assert_refused(answer, 400, ("InvalidURI", "InvalidArgument", "InvalidRequest"))
                elif answer.status == 200:
                    kept.append(byte)
                    answer = self.send("GET", path)
                    self.assertEqual((answer.status, answer.body), (200, bytes([byte])))
                else:
                    self.assertLess(byte, 0x20, answer)
                    self.assert_refused(answer, 400)
        self.assertLessEqual({*range(0x20, 0x7F)} - {*sigv4.UNRESERVED} - {0x2F}, {*kept})
        listed = self.send("GET", f"/{self.name}", [("list-type", "2"), ("encoding-type", "url")])
        self.assertEqual(listed.status, 200)
        for byte in kept:
            name = sigv4.encode(bytes([byte])).replace("%20", "+")
            self.assertTrue(
                f"<Key>a{name}b</Key>".encode() in listed.body
                or f"<Key>a%{byte:02X}b</Key>".encode() in listed.body
                or f"<Key>a{chr(byte)}b</Key>".encode() in listed.body,
                byte,
            )

    def test_names_that_look_like_paths_are_only_names(self):
        for key in HOSTILE:
            path = f"/{self.name}/{sigv4.encode_path(key)}"
            with self.subTest(key=key):
                answer = self.send("PUT", path, body=key.encode())
                self.assertEqual(answer.status, 200, answer)
                answer = self.send("GET", path)
                self.assertEqual((answer.status, answer.body), (200, key.encode()))
        self.assertEqual(self.keys(self.name), sorted(HOSTILE, key=str.encode))
        if self.server.is_ours:
            stored = {path.name for path in self.server.store.rglob("*")}
            self.assertFalse(stored & {"passwd", "x", "b", "CON", "-rf"})

    def test_a_slash_that_is_encoded_is_the_same_slash_for_all(self):
        self.put(self.name, "a/b", b"slash")
        raw, headers = self.service.build("GET", f"/{self.name}/a/b")
        answer = self.service.exchange(sigv4.head("GET", f"/{self.name}/a%2Fb", headers))
        self.assertIn((answer.status, answer.body), {(200, b"slash")} | {(403, answer.body)})

    def test_broken_utf8_is_refused(self):
        for raw in ("%FF", "%C0%AF", "%ED%A0%80", "%C3", "%F5%80%80%80", "a%80", "%E2%82"):
            answer = self.send("PUT", f"/{self.name}/{raw}", body=b"x")
            self.assert_refused(answer, 400)
        self.assertEqual(self.keys(self.name), [])

    def test_traversal_in_buckets_and_parameters(self):
        for path in ("/../etc", "/..", "/%2e%2e/%2e%2e", f"/{self.name}/../other", "/.", "/%00", "/a%00b/key"):
            answer = self.send("GET", path)
            self.assertIn(answer.status, (400, 403, 404), (path, answer))
        for items in (
            [("versionId", "../../x")],
            [("uploadId", "../../x")],
            [("uploadId", "%00")],
            [("versionId", "\x00")],
            [("partNumber", "../1")],
            [("versionId", "x" * 100_000)],
            [("prefix", "x" * 100_000)],
            [("marker", "\x00")],
            [("continuation-token", "../x")],
        ):
            answer = self.send(
                "GET", self.path if items[0][0] in ("versionId", "uploadId", "partNumber") else f"/{self.name}", items
            )
            self.assertIn(answer.status, (200, 400, 403, 404, 414, 431), (items[0][0], answer))
        self.assert_alive()


class Metadata(RawCase):
    def test_every_byte_in_a_value_is_kept_or_refused(self):
        for byte in range(256):
            value = f"a{chr(byte)}b"
            raw, headers = self.service.build("PUT", self.path, headers=[("x-amz-meta-v", value)], body=b"x")
            with self.subTest(byte=byte), self.service.wire() as wire:
                wire.send_lenient(raw + b"x")
                try:
                    answer = wire.receive("PUT")
                except sigv4.Closed:
                    self.assertLess(byte, 0x20)
                    continue
                if answer.status == 200:
                    found = self.send("GET", self.path)
                    self.assertEqual(found.status, 200)
                    shown = found.header("x-amz-meta-v")
                    self.assertTrue(byte >= 0x80 or shown in (value, value.strip(), "a b"), (value, shown))
                else:
                    self.assertIn(answer.status, (400, 403, 411))
                    self.assertTrue(byte < 0x20 or byte >= 0x7F, (byte, answer))
        self.assert_alive()

    def test_line_breaks_never_reach_an_answer(self):
        self.put(self.name, "key", b"x")
        for name in (
            "response-content-type",
            "response-content-disposition",
            "response-cache-control",
            "response-content-encoding",
            "response-content-language",
            "response-expires",
        ):
            for value in ("a\r\nx-injected: 1", "a\nx-injected: 1", "a\rx-injected: 1", "a\x00b"):
                answer = self.send("GET", self.path, [(name, value)])
                self.assertIsNone(answer.header("x-injected"))
                self.assertIn(answer.status, (200, 400))
                self.assertNotIn("\n", "".join(value for _, value in answer.headers))
        answer = self.send("PUT", f"/{self.name}/copy", headers=[("x-amz-copy-source", f"/{self.name}/a%0D%0Ax: y")])
        self.assert_refused(answer, (400, 404))

    def test_strangers_may_not_choose_headers(self):
        raw = sigv4.head("GET", f"{self.path}?response-content-type=text/html", [("host", self.service.host)])
        self.assertIn(self.service.exchange(raw).status, (400, 403))

    def test_names_of_metadata(self):
        for name in ("x-amz-meta-", "x-amz-meta-a b", "x-amz-meta-" + "n" * 5000, "x-amz-meta-\u00e4"):
            raw, _ = self.service.build("PUT", self.path, headers=[(name, "v")], body=b"x")
            self.assert_closed_or((200, 400, 403, 431), raw + b"x")
