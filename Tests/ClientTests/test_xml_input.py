"""XML that is broken, endless, or up to something."""

import time

from support import MIB, RawCase, needs_own_server

# Each place that reads XML: path, query, root element, and something inside that it understands.
PLACES = [
    ("bucket", "tagging", "PUT", "<Tagging>{}<TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"),
    ("bucket", "versioning", "PUT", "<VersioningConfiguration>{}<Status>Enabled</Status></VersioningConfiguration>"),
    ("bucket", "acl", "PUT", "<AccessControlPolicy>{}<AccessControlList/></AccessControlPolicy>"),
    (
        "bucket",
        "cors",
        "PUT",
        "<CORSConfiguration>{}<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*"
        "</AllowedOrigin></CORSRule></CORSConfiguration>",
    ),
    (
        "bucket",
        "lifecycle",
        "PUT",
        "<LifecycleConfiguration>{}<Rule><ID>a</ID><Status>Enabled</Status><Prefix/>"
        "<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
    ),
    (
        "bucket",
        "object-lock",
        "PUT",
        "<ObjectLockConfiguration>{}<ObjectLockEnabled>Enabled</ObjectLockEnabled>" "</ObjectLockConfiguration>",
    ),
    (
        "bucket",
        "encryption",
        "PUT",
        "<ServerSideEncryptionConfiguration>{}<Rule><ApplyServerSideEncryptionByDefault>"
        "<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        "</ServerSideEncryptionConfiguration>",
    ),
    ("bucket", "delete", "POST", "<Delete>{}<Object><Key>none</Key></Object></Delete>"),
    ("bucket", "logging", "PUT", "<BucketLoggingStatus>{}</BucketLoggingStatus>"),
    ("bucket", "notification", "PUT", "<NotificationConfiguration>{}</NotificationConfiguration>"),
    (
        "bucket",
        "requestPayment",
        "PUT",
        "<RequestPaymentConfiguration>{}<Payer>BucketOwner</Payer>" "</RequestPaymentConfiguration>",
    ),
    (
        "bucket",
        "website",
        "PUT",
        "<WebsiteConfiguration>{}<IndexDocument><Suffix>i</Suffix></IndexDocument>" "</WebsiteConfiguration>",
    ),
    (
        "bucket",
        "ownershipControls",
        "PUT",
        "<OwnershipControls>{}<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership>" "</Rule></OwnershipControls>",
    ),
    ("bucket", "publicAccessBlock", "PUT", "<PublicAccessBlockConfiguration>{}</PublicAccessBlockConfiguration>"),
    ("object", "tagging", "PUT", "<Tagging>{}<TagSet/></Tagging>"),
    ("object", "retention", "PUT", "<Retention>{}<Mode>GOVERNANCE</Mode></Retention>"),
    ("object", "legal-hold", "PUT", "<LegalHold>{}<Status>ON</Status></LegalHold>"),
]
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
ATTACKS = {
    "laughs": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>',
    "file": '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
    "network": '<!DOCTYPE x [<!ENTITY e SYSTEM "http://127.0.0.1:9/x">]>',
    "dtd": '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
    "quadratic": f'<!DOCTYPE x [<!ENTITY e "{"a" * 50_000}">]>',
    "parameter": '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
    "plain": "<!DOCTYPE x>",
}
INSIDE = {
    "laughs": "<x>&l9;</x>",
    "file": "<x>&e;</x>",
    "network": "<x>&e;</x>",
    "quadratic": "<x>" + "&e;" * 5000 + "</x>",
}


class Documents(RawCase):
    def setUp(self):
        super().setUp()
        self.put(self.name, "key")

    def place(self, kind, setting, method, body):
        path = f"/{self.name}" if kind == "bucket" else self.path
        return self.send(method, path, [(setting, "")], body=body if isinstance(body, bytes) else body.encode())

    def refuse(self, body_of, status=400, within=5):
        for kind, setting, method, form in PLACES:
            with self.subTest(setting=f"{kind} {setting}"):
                begin = time.monotonic()
                answer = self.place(kind, setting, method, body_of(form))
                # A bucket without versions has no use for a lock, whatever the document says.
                self.assert_refused(answer, (400, 409) if setting == "object-lock" else status)
                self.assertLess(time.monotonic() - begin, within, "it took long")

    def test_entities_and_document_types_are_refused_everywhere(self):
        for name, document_type in ATTACKS.items():
            self.refuse(lambda form: DECLARATION + document_type + form.format(INSIDE.get(name, "")))

    def test_broken_documents_are_refused_everywhere(self):
        for change in (
            lambda form: form.format("")[:-3],
            lambda form: form.format("<a>"),
            lambda form: form.format("&"),
            lambda form: form.format("<a b=c/>"),
            lambda form: form.format("&nonsense;"),
            lambda form: form.format("") * 2,
            lambda form: form.format("").encode() + b"\x00",
            lambda form: form.format("").replace("><", ">\x01<", 1).replace("{}", ""),
            lambda form: "<Nonsense/>",
            lambda form: "text",
            lambda form: DECLARATION,
            lambda form: form.format("").encode("latin-1").replace(b">", b">\xff\xfe", 1),
            lambda form: form.format("&#0;"),
            lambda form: form.format("&#xFFFFFFFF;"),
        ):
            self.refuse(change)

    def test_deep_and_wide_documents_are_refused_everywhere(self):
        self.refuse(lambda form: form.format("<a>" * 100_000))
        self.refuse(lambda form: form.format("<a>" * 200 + "</a>" * 200))
        self.refuse(lambda form: form.format("<a " + " ".join(f'b{n}=""' for n in range(20_000)) + "/>"))
        self.refuse(lambda form: form.format(f"<{'a' * 100_000}/>"))

    def test_long_documents_are_refused(self):
        for kind, setting, method, form in PLACES[:3] + PLACES[7:8]:
            answer = self.place(kind, setting, method, form.format(" " * (9 * MIB)))
            self.assert_refused(answer, (400, 413))

    def test_what_is_ordinary_is_understood(self):
        space = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        for form in (
            "<Tagging{}>{}</Tagging>",
            DECLARATION + "\n<Tagging{}>\n {}\n</Tagging>\n",
            "<!-- note --><Tagging{}>{}</Tagging>",
            "\ufeff<Tagging{}>{}</Tagging>",
        ):
            for name in ("", space):
                body = form.format(name, "<TagSet><Tag><Key>a&#x41;</Key><Value><![CDATA[b]]></Value></Tag></TagSet>")
                answer = self.place("bucket", "tagging", "PUT", body)
                if "<!--" in form or "CDATA" in body:
                    self.assertIn(answer.status, (200, 204, 400), body)
                else:
                    self.assertIn(answer.status, (200, 204), body)
        body = "<Tagging><TagSet><Tag><Key>a&#x2b;&#45;</Key><Value>b</Value></Tag></TagSet></Tagging>"
        self.assertIn(self.place("bucket", "tagging", "PUT", body).status, (200, 204))
        found = self.s3.get_bucket_tagging(Bucket=self.name)["TagSet"]
        self.assertEqual(found, [{"Key": "a+-", "Value": "b"}])

    def test_completing_with_a_bad_document_keeps_the_upload(self):
        upload = self.s3.create_multipart_upload(Bucket=self.name, Key="up")["UploadId"]
        for body in (
            ATTACKS["laughs"] + "<CompleteMultipartUpload>&l9;</CompleteMultipartUpload>",
            "x",
            "<CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>y</ETag></Part>"
            "</CompleteMultipartUpload>",
        ):
            answer = self.send("POST", f"/{self.name}/up", [("uploadId", upload)], body=body.encode())
            self.assert_refused(answer, 400)
        self.s3.list_parts(Bucket=self.name, Key="up", UploadId=upload)

    @needs_own_server
    def test_all_of_that_takes_no_memory(self):
        before = self.server.resident_bytes()
        for _ in range(10):
            for attack in ("laughs", "quadratic"):
                self.place("bucket", "tagging", "PUT", ATTACKS[attack] + f"<Tagging>{INSIDE[attack]}</Tagging>")
            self.place("bucket", "tagging", "PUT", "<Tagging>" + "<a>" * 500_000)
        self.assertLess(self.server.resident_bytes() - before, 100 * MIB)
