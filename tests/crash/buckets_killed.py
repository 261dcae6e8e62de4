"""Killed copies to a bucket."""

from __future__ import annotations

import threading
from urllib.parse import parse_qs, urlsplit

import xxhash
from killing import LIMIT, NAMED, Case
from moto.moto_server.werkzeug_app import MotoRequestHandler


class Served:
    """Counts the requests that the server is processing."""

    def __init__(self):
        self._count, self._changed = 0, threading.Condition()

    def __enter__(self):
        with self._changed:
            self._count += 1

    def __exit__(self, *_):
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self):
        """Wait until the server is idle."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._count, timeout=LIMIT)


class BucketCase(Case):
    """A copy from a folder to a bucket, which records the requests of the server."""

    def __init__(self, folder, chance, bucket, monkeypatch, name="x"):
        super().__init__(folder, chance, name)
        self.bucket, self._prefix = bucket, f"cloud/{name}/"
        self.endpoints["b"] = {"filesystem": bucket.settings("cloud", **NAMED)}
        asked = self._asked = []
        self._served = served = Served()

        def log_request(handler, code="-", size="-"):
            asked.append((handler.command, handler.path))

        def run_wsgi(handler, run=MotoRequestHandler.run_wsgi):
            with served:
                run(handler)

        monkeypatch.setattr(MotoRequestHandler, "log_request", log_request)
        monkeypatch.setattr(MotoRequestHandler, "run_wsgi", run_wsgi)

    def emptied(self):
        """Empty the destination."""
        for name in self.present():
            self.bucket.client.delete_object(Bucket=self.bucket.name, Key=self._prefix + name)

    def present(self):
        """Return the digest of each object, without the objects that represent folders."""
        keys = [key for key in self.bucket.keys(self._prefix) if not key.endswith("/")]
        return {key.removeprefix(self._prefix): xxhash.xxh3_128_digest(self.bucket.get(key)) for key in keys}

    def identities(self, names):
        """Return the names; `rerun` checks the requests instead."""
        return names

    def uploads(self):
        """Return the parts of unfinished uploads, as pairs of name and part number."""
        client, found = self.bucket.client, set()
        for upload in client.list_multipart_uploads(Bucket=self.bucket.name).get("Uploads", ()):
            key = upload["Key"]
            parts = client.list_parts(Bucket=self.bucket.name, Key=key, UploadId=upload["UploadId"]).get("Parts", ())
            found.update((key.removeprefix(self._prefix), str(part["PartNumber"])) for part in parts)
        return found

    def sent(self):
        """Return the objects and parts that the server received since the last call."""
        asked, self._asked[:] = list(self._asked), []
        found, top = set(), f"/{self.bucket.name}/{self._prefix}"
        for method, target in asked:
            place = urlsplit(target)
            if method == "PUT" and place.path.startswith(top):
                number = parse_qs(place.query).get("partNumber", [""])[0]
                found.add((place.path.removeprefix(top), number))
        return found

    def rerun(self, run):
        """Copy again; check that no object and no part that S3 already had is sent."""
        # The server may still be processing requests of the killed process.
        self._served.wait()
        before, parts = set(self.bucket.keys(self._prefix)), self.uploads()
        self.sent()
        said = super().rerun(run)
        sent = self.sent()
        if "sync_level" in self.options:
            again = {(key.removeprefix(self._prefix), "") for key in before} & sent
            assert not again, "a whole object was sent again"
        assert not parts & sent, "a part was sent again"
        return said

    def check_whole(self):
        """Check that all objects have arrived, and that no other object, part or upload record is left."""
        super().check_whole()
        assert self.uploads() == set()
        records = self.folder / "state" / "chiltepin" / "uploads"
        assert [path for path in records.rglob("*") if path.is_file()] == []
