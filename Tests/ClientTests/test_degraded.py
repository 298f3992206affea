"""A server with a disk lost, failing or full of errors: clients notice nothing, and the disk catches up."""

import concurrent.futures

from support import MIB, PART, OwnServerCase, poll, random_bytes, sha256


class LostDisk(OwnServerCase):
    breakable = True

    def test_everything_goes_on_and_the_state_is_told(self):
        name = self.bucket("Enabled")
        before = {f"before/{n}": random_bytes(1000 * n, n) for n in range(30)}
        for key, content in before.items():
            self.put(name, key, content)
        self.put(name, "big-before", random_bytes(9 * MIB, 99))
        upload = self.s3.create_multipart_upload(Bucket=name, Key="parts")["UploadId"]
        pieces = [random_bytes(PART, 1), random_bytes(PART, 2), b"end"]
        place = {"Bucket": name, "Key": "parts", "UploadId": upload}
        etags = [self.s3.upload_part(**place, PartNumber=1, Body=pieces[0])["ETag"]]
        self.server.lose(1)
        after = {f"after/{n}": random_bytes(1000 * n, 100 + n) for n in range(30)}
        for key, content in after.items():
            self.put(name, key, content)
        for number in (2, 3):
            etags.append(self.s3.upload_part(**place, PartNumber=number, Body=pieces[number - 1])["ETag"])
        self.s3.complete_multipart_upload(
            **place,
            MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]},
        )
        self.s3.delete_object(Bucket=name, Key="before/7")
        self.assertEqual(sha256(self.get(name, "parts")), sha256(b"".join(pieces)))
        self.assertEqual(sha256(self.get(name, "big-before")), sha256(random_bytes(9 * MIB, 99)))
        del before["before/7"]
        for key, content in (before | after).items():
            self.assertEqual(self.get(name, key), content)
        self.assertEqual(set(self.keys(name)), {*before, *after, "parts", "big-before"})
        self.assertEqual(self.server.operation("/readyz")[0], 200)
        self.server.stop()
        self.server.bring_back(1)
        self.server.start()
        for key, content in (before | after).items():
            self.assertEqual(self.get(name, key), content)
        # The disk that came back carries its share: the next may go.
        self.server.stop()
        self.server.run("verify", "--json")
        self.server.start()
        self.server.lose(0)
        for key, content in (before | after).items():
            self.assertEqual(self.get(name, key), content)
        self.put(name, "again", b"again")
        self.assertEqual(self.get(name, "again"), b"again")

    def test_lost_in_the_middle_of_many_writers(self):
        name = self.bucket()
        started = []

        def write(worker):
            for number in range(25):
                key = f"{worker}/{number}"
                content = random_bytes(20_000, worker * 1000 + number)
                started.append(key)
                answer = self.service.request("PUT", f"/{name}/{key}", body=content)
                self.assertEqual(answer.status, 200, answer)
            return True

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            writers = [pool.submit(write, worker) for worker in range(6)]
            poll(lambda: len(started) > 40, "the writers are under way")
            self.server.lose(2)
            self.assertTrue(all(writer.result() for writer in writers))
        self.assertEqual(len(self.keys(name)), 150)
        for worker in range(6):
            for number in range(25):
                self.assertEqual(self.get(name, f"{worker}/{number}"), random_bytes(20_000, worker * 1000 + number))
