"""Disks that fail under the blob store: no blob and no litter, whichever call it was."""

import errno
import os
from dataclasses import replace

import pytest

from s3lite.blobs.local import LocalBlobs, System, network_file_system
from s3lite.blobs.open import open_blobs
from s3lite.settings import Settings, SettingsError


class FailingSystem(System):
    """Fails the n-th call of one that can fail."""

    def __init__(self):
        self.left = -1
        self.calls = []

    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if name in ("open", "write", "fdatasync", "link", "rename", "fsync", "reserve"):
            return lambda *args, **kwargs: self._call(name, found, args, kwargs)
        return found

    def _call(self, name, function, args, kwargs):
        self.calls.append(name)
        if self.left >= 0:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.EIO, "injected")
        return function(*args, **kwargs)


def files(root):
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def system():
    return FailingSystem()


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def blobs(request, tmp_path, system):
    store = LocalBlobs(tmp_path, durability="full", system=system)
    store.has_unnamed = request.param
    # One directory for all blobs.
    store._ids.blob = iter(f"{number:030x}ab" for number in range(100)).__next__
    system.calls.clear()
    yield store
    store.close()


def put(blobs, data, size):
    with blobs.create(size=size) as writer:
        writer.write(data[:1000])
        writer.write(data[1000:])
        return writer.commit()


def test_whichever_call_fails_nothing_remains(blobs, system, tmp_path):
    data = bytes(2 << 20)
    # open, reserve, two writes, fdatasync, fsync of a new directory, link or rename; fsync, now that it is there
    for call in (0, 1, 2, 3, 4, 5, 6, 6):
        system.left = call
        with pytest.raises(OSError, match="injected"):
            put(blobs, data, len(data))
        assert files(tmp_path) == []
    system.left = 7  # the directory is there by now
    blob = put(blobs, data, len(data))
    assert system.left == 0
    assert b"".join(blobs.read(blob, offset=0, length=len(data))) == data


def test_a_commit_syncs_data_before_the_name_and_the_name_before_it_returns(blobs, system):
    put(blobs, b"x" * 2000, 2000)
    name = "link" if blobs.has_unnamed else "rename"
    assert system.calls == ["open", "write", "write", "fdatasync", "fsync", name, "fsync"]


def test_a_failed_sync_is_not_repeated(blobs, system):
    with blobs.create() as writer:
        writer.write(b"x")
        system.left = 0
        with pytest.raises(OSError, match="injected"):
            writer.commit()
        with pytest.raises(ValueError, match="descriptor"):
            writer.commit()
    assert list(blobs.scan()) == []


def test_relaxed_does_not_sync(tmp_path, system):
    blobs = LocalBlobs(tmp_path, durability="relaxed", system=system)
    put(blobs, b"x" * 2000, None)
    assert system.calls == ["open", "write", "write", "link"]
    blobs.close()


def test_short_writes_are_continued(tmp_path):
    class Short(System):
        write = staticmethod(lambda fd, data: os.write(fd, data[:7]))

    blobs = LocalBlobs(tmp_path, durability="full", system=Short())
    data = os.urandom(1000)
    with blobs.create() as writer:
        writer.write(memoryview(data))
        blob = writer.commit()
    assert b"".join(blobs.read(blob, offset=0, length=1000)) == data
    blobs.close()


def test_a_file_system_without_unnamed_files_is_noticed(tmp_path):
    class Old(System):
        @staticmethod
        def open(path, flags, mode):
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "old")
            return os.open(path, flags, mode)

    blobs = LocalBlobs(tmp_path, durability="full", system=Old())
    blob = put(blobs, b"x" * 2000, 2000)
    assert not blobs.has_unnamed
    assert [entry[0] for entry in blobs.scan()] == [blob]
    assert files(tmp_path / "tmp") == []
    blobs.close()


def test_a_short_blob_keeps_no_reserved_room(tmp_path):
    blobs = LocalBlobs(tmp_path, durability="full")
    with blobs.create(size=8 << 20) as writer:
        writer.write(b"x")
        blob = writer.commit()
    status = os.stat(blobs.path(blob))
    assert status.st_size == 1
    assert status.st_blocks * 512 < 1 << 20
    blobs.close()


def test_one_directory_sync_serves_links_made_before_it(tmp_path, system):
    blobs = LocalBlobs(tmp_path, durability="full", system=system)
    directory = blobs.directory("0" * 32)
    system.calls.clear()
    directory._begun, directory._done = 4, 5  # a sync that begins after this caller's link is done
    directory.sync()
    assert system.calls == []
    directory._failed = 5  # … or has failed, which it must not survive
    with pytest.raises(OSError, match="could not be synced"):
        directory.sync()
    directory._begun = 5
    directory.sync()
    assert system.calls == ["fsync"]
    blobs.close()


def test_sweep_temporary_takes_the_old_only(tmp_path):
    blobs = LocalBlobs(tmp_path, durability="full")
    old, young = tmp_path / "tmp" / "old", tmp_path / "tmp" / "young"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    assert blobs.sweep_temporary(older_than_s=60) == (1, 1)
    assert files(tmp_path) == [young]
    blobs.close()


def test_ready_notices_a_missing_directory(tmp_path):
    blobs = LocalBlobs(tmp_path, durability="full")
    blobs.ready()
    (tmp_path / "tmp").rmdir()
    with pytest.raises(OSError, match="No such file"):
        blobs.ready()
    blobs.close()


def test_scan_ignores_what_is_no_blob(tmp_path):
    blobs = LocalBlobs(tmp_path, durability="full")
    (tmp_path / "blobs" / "00" / "lost+found").mkdir(parents=True)
    (tmp_path / "blobs" / "00" / "note").write_text("x")
    assert list(blobs.scan()) == []
    blobs.close()


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/share\\040one rw shared:1 - nfs4 host:/x rw
31 30 0:41 / /mnt/share\\040one/disk rw - xfs /dev/sdb rw
32 22 0:42 / /mnt/fuse rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data", None),
        ("/mnt/share one/data", "nfs4"),
        ("/mnt/share one", "nfs4"),
        ("/mnt/share one/disk/data", None),
        ("/mnt/share one two", None),
        ("/mnt/fuse/x", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_known(tmp_path, path, kind):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_file_system(path, str(mounts)) == kind


def test_a_network_file_system_is_refused_unless_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr("s3lite.blobs.local.network_file_system", lambda path: "nfs4")
    with pytest.raises(SettingsError, match="nfs4"):
        LocalBlobs(tmp_path, durability="full")
    LocalBlobs(tmp_path, durability="full", allow_network_fs=True).close()


@pytest.mark.parametrize(
    ("kind", "is_accepted"), [("nfs4", True), ("ceph", True), ("nfs", False), ("cifs", False)]
)
def test_shared_file_systems_hold_bytes_beside_an_index_on_postgres(tmp_path, monkeypatch, kind, is_accepted):
    monkeypatch.setattr("s3lite.blobs.local.network_file_system", lambda path: kind)
    settings = Settings(data_dir=str(tmp_path), database_url="postgresql://db/s3lite")
    if is_accepted:
        open_blobs(settings).close()
    else:
        with pytest.raises(SettingsError, match=kind):
            open_blobs(settings)
    with pytest.raises(SettingsError, match=kind):
        open_blobs(replace(settings, database_url=""))
