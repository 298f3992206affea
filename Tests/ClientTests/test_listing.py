"""Listing: old and new, with prefixes, delimiters, pages and keys of every kind."""

import concurrent.futures

from support import ApiCase

KEYS = ["a", "a/b", "a/b/c", "a/c", "b", "b/", "b/a/x", "c d", "c+d", "ä", "日本", "z//y", "~"]


class Listing(ApiCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.name = ApiCase.bucket(cls)
        for key in KEYS:
            cls.s3.put_object(Bucket=cls.name, Key=key, Body=key.encode())

    def both(self, **options):
        """The keys and common prefixes of old and new listing, which must agree."""
        answers = []
        for call in (self.s3.list_objects, self.s3.list_objects_v2):
            page = call(Bucket=self.name, **options)
            answers.append(
                (
                    [entry["Key"] for entry in page.get("Contents", [])],
                    [entry["Prefix"] for entry in page.get("CommonPrefixes", [])],
                )
            )
        self.assertEqual(*answers)
        return answers[0]

    def expected(self, prefix="", delimiter=None):
        keys, prefixes = [], []
        for key in sorted(KEYS, key=str.encode):
            if key.startswith(prefix):
                end = key.find(delimiter, len(prefix)) if delimiter else -1
                if end < 0:
                    keys.append(key)
                elif key[: end + len(delimiter)] not in prefixes:
                    prefixes.append(key[: end + len(delimiter)])
        return keys, prefixes

    def test_all_in_the_order_of_their_bytes(self):
        self.assertEqual(self.both(), self.expected())

    def test_prefixes_and_delimiters(self):
        for prefix in ["", "a", "a/", "a/b", "b/", "z/", "c ", "none", "日"]:
            for delimiter in ["/", "b", "//", "本", " ", "none"]:
                with self.subTest(prefix=prefix, delimiter=delimiter):
                    self.assertEqual(self.both(Prefix=prefix, Delimiter=delimiter), self.expected(prefix, delimiter))

    def test_new_pages_join_to_the_whole(self):
        for options in ({}, {"Delimiter": "/"}, {"Prefix": "a"}):
            prefix, delimiter = options.get("Prefix", ""), options.get("Delimiter")
            for size in (1, 2, 3, 1000):
                with self.subTest(options=options, size=size):
                    found, more = [], {}
                    while True:
                        page = self.s3.list_objects_v2(Bucket=self.name, MaxKeys=size, **options, **more)
                        entries = [entry["Key"] for entry in page.get("Contents", [])]
                        entries += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
                        self.assertEqual(page["KeyCount"], len(entries))
                        self.assertLessEqual(len(entries), size)
                        found += entries
                        if not page["IsTruncated"]:
                            break
                        more = {"ContinuationToken": page["NextContinuationToken"]}
                    keys, prefixes = self.expected(prefix, delimiter)
                    self.assertEqual(sorted(found), sorted(keys + prefixes))

    def test_old_pages_join_to_the_whole(self):
        for options in ({}, {"Delimiter": "/"}):
            for size in (1, 2, 1000):
                found, marker = [], ""
                while True:
                    page = self.s3.list_objects(Bucket=self.name, MaxKeys=size, Marker=marker, **options)
                    entries = [entry["Key"] for entry in page.get("Contents", [])]
                    found += entries + [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
                    if not page["IsTruncated"]:
                        break
                    self.assertEqual("NextMarker" in page, "Delimiter" in options)
                    marker = page.get("NextMarker") or entries[-1]
                keys, prefixes = self.expected("", options.get("Delimiter"))
                self.assertEqual(sorted(found), sorted(keys + prefixes))

    def test_starting_after_a_key(self):
        self.assertEqual(self.keys(self.name, StartAfter="a/c"), [k for k in sorted(KEYS, key=str.encode) if k > "a/c"])
        self.assertEqual(
            self.keys(self.name, StartAfter="none"), [k for k in sorted(KEYS, key=str.encode) if k > "none"]
        )
        page = self.s3.list_objects(Bucket=self.name, Marker="b")
        self.assertEqual(page["Marker"], "b")
        self.assertEqual(page["Contents"][0]["Key"], "b/")

    def test_no_keys_is_a_page_too(self):
        for call in (self.s3.list_objects, self.s3.list_objects_v2):
            page = call(Bucket=self.name, MaxKeys=0)
            self.assertNotIn("Contents", page)
            self.assertFalse(page["IsTruncated"])
        self.assertLessEqual(self.s3.list_objects_v2(Bucket=self.name, MaxKeys=5000)["MaxKeys"], 5000)

    def test_what_is_no_number_is_refused(self):
        for value in ("-1", "x", "99999999999999999999", "1.5"):
            for items in ([("max-keys", value)], [("list-type", "2"), ("max-keys", value)]):
                answer = self.service.request("GET", f"/{self.name}", items)
                self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"), items)

    def test_a_foreign_token_is_refused(self):
        for token in ("nonsense!", "", "QUJD" * 400):
            answer = self.service.request("GET", f"/{self.name}", [("list-type", "2"), ("continuation-token", token)])
            self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"), token)

    def test_an_unknown_encoding_is_refused(self):
        answer = self.service.request("GET", f"/{self.name}", [("encoding-type", "base64")])
        self.assertEqual((answer.status, answer.code), (400, "InvalidArgument"))

    def test_keys_are_encoded_when_asked(self):
        answer = self.service.request("GET", f"/{self.name}", [("list-type", "2"), ("encoding-type", "url")])
        text = answer.body.decode()
        self.assertIn("<EncodingType>url</EncodingType>", text)
        self.assertIn("<Key>c%2Bd</Key>", text)
        self.assertTrue("<Key>c+d</Key>" in text or "<Key>c%20d</Key>" in text, text)
        self.assertIn("<Key>%C3%A4</Key>", text)
        self.assertIn("<Key>a/b/c</Key>", text)

    def test_an_entry_says_what_the_object_is(self):
        entry = self.s3.list_objects_v2(Bucket=self.name, Prefix="a/b/c", FetchOwner=True)["Contents"][0]
        head = self.s3.head_object(Bucket=self.name, Key="a/b/c")
        self.assertEqual(
            (entry["Size"], entry["ETag"], entry["LastModified"].replace(microsecond=0)),
            (5, head["ETag"], head["LastModified"]),
        )
        self.assertTrue(entry["Owner"]["ID"])
        self.assertNotIn("Owner", self.s3.list_objects_v2(Bucket=self.name)["Contents"][0])
        self.assertIn("Owner", self.s3.list_objects(Bucket=self.name)["Contents"][0])

    def test_versions_are_listed_with_delimiters(self):
        page = self.s3.list_object_versions(Bucket=self.name, Delimiter="/", Prefix="")
        keys, prefixes = self.expected("", "/")
        self.assertEqual([entry["Key"] for entry in page["Versions"]], keys)
        self.assertEqual([entry["Prefix"] for entry in page["CommonPrefixes"]], prefixes)


class ManyKeys(ApiCase):
    def test_a_thousand_a_page(self):
        name = self.bucket()
        keys = [f"k/{number:05}" for number in range(1100)]

        def put(key):
            self.assertEqual(self.service.request("PUT", f"/{name}/{key}", body=b"x").status, 200)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(put, keys))
        page = self.s3.list_objects_v2(Bucket=name)
        self.assertEqual((len(page["Contents"]), page["IsTruncated"]), (1000, True))
        self.assertEqual(self.keys(name), keys)
        page = self.s3.list_objects_v2(Bucket=name, Delimiter="/")
        self.assertEqual([entry["Prefix"] for entry in page["CommonPrefixes"]], ["k/"])
        self.assertFalse(page["IsTruncated"])


class ControlCharacters(ApiCase):
    def test_keys_that_xml_can_not_carry_are_listed_encoded(self):
        name = self.bucket()
        answer = self.service.request("PUT", f"/{name}/a%01b", body=b"x")
        if answer.status == 400:
            return
        self.assertEqual(answer.status, 200)
        answer = self.service.request("GET", f"/{name}", [("list-type", "2"), ("encoding-type", "url")])
        self.assertIn(b"<Key>a%01b</Key>", answer.body)
        answer = self.service.request("GET", f"/{name}", [("list-type", "2")])
        self.assertIn(answer.status, (200, 400))
        self.assertNotIn(b"\x01", answer.body)
