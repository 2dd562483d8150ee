"""Fixtures: the command line on a data directory of its own, copied from one that is made once."""

from __future__ import annotations

import functools
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from s3lite import bootstrap
from s3lite.auth.acl import canned_acl
from s3lite.callback.signing import CallbackKeys
from s3lite.cli.main import cli
from s3lite.core import write
from s3lite.core.store import Store
from s3lite.ids import Ids
from s3lite.model import Bucket, Checksum, ObjectHead, ObjectVersion, Part, Stored
from s3lite.settings import load
from s3lite.times import Clock
from s3lite.wire import checksums
from s3lite.wire.conditions import WriteConditions

ENVIRONMENT = {
    "S3LITE_ACCESS_KEY": "root-key",
    "S3LITE_SECRET_KEY": "root-secret",
    "S3LITE_DURABILITY": "relaxed",
    "S3LITE_STORAGE_INLINE_BYTES": "1000",
}

Run = Callable[..., Result]

_keys_once = functools.cache(CallbackKeys.from_bytes)  # checking an RSA key takes longer than most commands


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Settings of these tests; the data directory does not exist yet."""
    for name in [name for name in os.environ if name.startswith("S3LITE_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("S3LITE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(CallbackKeys, "from_bytes", _keys_once)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks at standard error; standard output goes elsewhere."""
    monkeypatch.setattr(
        "click.testing._NamedTextIOWrapper.isatty", lambda self: self.name == "<stderr>", raising=False
    )
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that has just been made: keys take a while."""
    path = tmp_path_factory.mktemp("template") / "data"
    settings = load(environ={**ENVIRONMENT, "S3LITE_DATA_DIR": str(path)})
    storage = bootstrap.prepare(settings, clock=Clock(), ids=Ids())
    storage.catalog.close()
    storage.blobs.close()
    return path


@pytest.fixture
def data_dir(template: Path, environment: Path) -> Path:
    """A fresh installation."""
    shutil.copytree(template, environment)
    return environment


@pytest.fixture
def run(environment: Path) -> Run:
    """Run a command line; ``exit_code`` is asserted."""

    def invoke(*arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(cli, arguments, prog_name="s3lite")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == exit_code, result.output
        return result

    return invoke


@pytest.fixture
def store(data_dir: Path) -> Iterator[Store]:
    """The installation as a server beside the command line has it open, with a bucket ``bucket``."""
    settings = load()
    storage = bootstrap.prepare(settings, clock=Clock(), ids=Ids())
    acl = canned_acl("private", owner_id="root", bucket_owner_id="root")
    storage.catalog.write(
        lambda tx: tx.create_bucket(name="bucket", owner_id="root", region="r", acl=acl, created_ms=0)
    )
    yield Store(storage.catalog, storage.blobs, Clock(), Ids(), settings, storage.keyring)
    storage.catalog.close()
    storage.blobs.close()


class Objects:
    """Puts objects into the bucket without HTTP."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def bucket(self) -> Bucket:
        with self.store.catalog.read() as tx:
            found = tx.bucket("bucket")
        assert found is not None
        return found

    def stored(self, data: bytes, algorithm: str = "CRC64NVME") -> tuple[Stored, checksums.Digests]:
        digests = checksums.Digests({algorithm})
        source = io.BytesIO(data)
        kept = write.receive(
            self.store, source, size=len(data), digests=digests, verify=lambda received: None
        )
        return kept, digests

    def put(self, key: str, data: bytes) -> ObjectVersion:
        kept, digests = self.stored(data)
        new = write.NewVersion(
            key=key,
            owner_id="root",
            head=ObjectHead(),
            acl=self.bucket.acl,
            size=len(data),
            etag=digests.etag,
            checksum=Checksum("CRC64NVME", digests.value("CRC64NVME")),
            stored=kept,
        )
        return write.publish(self.store, self.bucket, new, WriteConditions())

    def multipart(self, key: str, parts: list[bytes], *, algorithm: str, kind: str) -> ObjectVersion:
        made = [self.stored(data, algorithm) for data in parts]
        etags = [digests.etag for _, digests in made]
        values = [digests.value(algorithm) for _, digests in made]
        if kind == "COMPOSITE":
            value = checksums.composite(algorithm, values)
        else:
            value = checksums.full_object(algorithm, list(zip(values, map(len, parts), strict=True)))
        bucket = self.bucket

        def work(tx):
            upload = tx.create_upload(
                upload_id=f"upload-{key}",
                bucket_id=bucket.id,
                key=key,
                owner_id="root",
                initiator_id="root",
                initiated_ms=0,
                head=ObjectHead(),
                acl=bucket.acl,
                checksum_algorithm=algorithm,
                checksum_type=kind,
            )
            for number, (kept, digests) in enumerate(made, start=1):
                part = Part(number, kept.size, digests.etag, 0, kept.id, digests.value(algorithm))
                tx.put_part(upload.row, part, stored=kept)
            return tx.complete_upload(
                upload,
                part_numbers=range(1, len(parts) + 1),
                version_id="null",
                etag=checksums.multipart_etag(etags),
                modified_ms=0,
                checksum=Checksum(algorithm, value, kind),
            )

        return self.store.catalog.write(work)

    def path(self, blob: str | None) -> Path:
        """The file of a blob."""
        assert blob is not None
        return Path(self.store.settings.data_dir) / "blobs" / blob[-2:] / blob


@pytest.fixture
def objects(store: Store) -> Objects:
    return Objects(store)
