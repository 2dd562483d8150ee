"""The local keyring: a file with the keys that stand at the top, in the place of a key service.

One JSON file (mode 0600), written anew and renamed, one writer at a time by a lock file beside it.
A key has a name, by which clients know it, aliases, and generations: the last one seals, all of them
open. A generation is referred to as ``NAME#ID`` with a random ID, so that a key of the same name in
another file is never taken for it. Running servers see a changed file at their next sealing, or when
they meet a generation that they do not know.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from s3lite.crypto.aead import KEY_BYTES, new_key

SSE_S3 = "sse-s3"
"""The key of SSE-S3. Made when it is first needed; no client can name it."""
DEFAULT_KMS = "aws/s3"
"""The key of ``aws:kms`` without a key id, if the operator has made one."""

_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.-]{0,255}")
_ARN = re.compile(r"arn:[a-z-]+:kms:[a-z0-9-]*:[0-9A-Za-z]*:(key/|alias/)(.+)")


class KeyringError(Exception):
    """The keyring cannot be used, or will not take a key."""


class UnknownKeyError(KeyringError):
    """The keyring has no such key."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One secret of a key."""

    id: str
    created: str  # RFC 3339
    secret: bytes

    def __repr__(self) -> str:
        return f"Generation({self.id})"


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A key of the keyring, its generations oldest first."""

    name: str
    aliases: tuple[str, ...]
    generations: tuple[Generation, ...]


@dataclass(frozen=True, slots=True)
class Master:
    """What seals now: its reference and its secret."""

    ref: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Master({self.ref})"


@dataclass(frozen=True, slots=True)
class _Contents:
    """A file as it was read."""

    id: str
    keys: Mapping[str, NamedKey]
    stamp: tuple[int, int, int] | None  # of the file; None: there is none


_EMPTY = _Contents("", {}, None)


class Keyring:
    """A keyring file, which need not exist. Safe to use from many threads and processes."""

    def __init__(self, path: Path, *, now: Callable[[], str]) -> None:
        self.path = path
        self._now = now
        self._contents = _EMPTY
        self.accepted_id = ""  # the file's, once the installation is known to be sealed with it

    # ------------------------------------------------------------ reading

    @property
    def id(self) -> str:
        """A random name of the file's, "" when there is none."""
        return self._fresh().id

    def names(self) -> list[str]:
        """All keys."""
        return sorted(self._fresh().keys)

    def key(self, name: str) -> NamedKey:
        """A key by its exact name. Raises UnknownKeyError."""
        return self._named(self._fresh(), name)

    def resolve(self, wanted: str) -> str:
        """The name of the key that a client means: its name, an alias (``alias/…``), or an ARN of either.

        Raises UnknownKeyError.
        """
        arn = _ARN.fullmatch(wanted)
        name = (arn[2] if arn[1] == "key/" else f"alias/{arn[2]}") if arn else wanted
        contents = self._fresh()
        if name in contents.keys and name != SSE_S3:
            return name
        alias = name.removeprefix("alias/")
        for key in contents.keys.values():
            if alias != name and (alias in key.aliases or alias == key.name == DEFAULT_KMS):
                return key.name
        raise UnknownKeyError(f"the keyring has no key {wanted[:128]}")

    def current(self, name: str) -> Master:
        """What seals under the key of this name. Raises UnknownKeyError."""
        key = self._named(self._fresh(), name)
        newest = key.generations[-1]
        return Master(reference(name, newest), newest.secret)

    def secret(self, ref: str) -> bytes:
        """The secret of a generation. The file is looked at when the one in memory lacks it.

        Raises UnknownKeyError.
        """
        found = _secret(self._contents, ref)
        if found is None:
            found = _secret(self._fresh(), ref)
        if found is None:
            raise UnknownKeyError(f"the keyring lacks {ref}")
        return found

    def _named(self, contents: _Contents, name: str) -> NamedKey:
        if name not in contents.keys:
            raise UnknownKeyError(f"the keyring has no key {name[:128]}")
        return contents.keys[name]

    def _fresh(self) -> _Contents:
        """The file's contents, read again when it has changed. Raises KeyringError."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return _EMPTY
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp != self._contents.stamp:
            self._contents = _parsed(self.path, stamp)
        return self._contents

    # ------------------------------------------------------------ changing

    def add(self, name: str, aliases: tuple[str, ...] = ()) -> NamedKey:
        """Make a key, and the file with it when there is none. Raises KeyringError for a name that is taken."""
        for each in (name, *aliases):
            if not _NAME.fullmatch(each) or each.startswith("alias/"):
                raise KeyringError(
                    f"{each!r} is no name for a key: use up to 256 letters, digits and / _ . -, without 'alias/'"
                )
        with self._changing() as contents:
            taken = set(contents.keys) | {alias for key in contents.keys.values() for alias in key.aliases}
            for each in (name, *aliases):
                if each in taken:
                    raise KeyringError(f"the keyring has a key or an alias {each}")
            made = NamedKey(name, aliases, (self._generation(),))
            self._write(replace(contents, keys={**contents.keys, name: made}))
            return made

    def ensure(self, name: str) -> None:
        """Make a key unless it is there."""
        if name not in self._fresh().keys:
            with self._changing() as contents:
                if name not in contents.keys:
                    made = NamedKey(name, (), (self._generation(),))
                    self._write(replace(contents, keys={**contents.keys, name: made}))

    def rotate(self, name: str) -> NamedKey:
        """Give a key a new generation, which seals from now on. Raises UnknownKeyError."""
        with self._changing() as contents:
            key = self._named(contents, name)
            key = replace(key, generations=(*key.generations, self._generation()))
            self._write(replace(contents, keys={**contents.keys, name: key}))
            return key

    def _generation(self) -> Generation:
        return Generation(secrets.token_hex(6), self._now(), new_key())

    @contextmanager
    def _changing(self) -> Iterator[_Contents]:
        """The contents, while nobody else changes them."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _give_to_owner(lock, self.path.parent)
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self._fresh()
        finally:
            os.close(lock)

    def _write(self, contents: _Contents) -> None:
        """Durable before it is used: what is sealed under a lost key is lost."""
        document = {
            "format": _FORMAT,
            "id": contents.id or secrets.token_hex(8),
            "keys": {
                key.name: {
                    "aliases": list(key.aliases),
                    "generations": [
                        {"id": each.id, "created": each.created, "secret": each.secret.hex()}
                        for each in key.generations
                    ],
                }
                for key in contents.keys.values()
            },
        }
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _give_to_owner(handle, self.path.parent)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(document, file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _give_to_owner(handle: int, directory: Path) -> None:
    """Give a file to whoever owns the directory: the server must read what root has made."""
    if os.geteuid() == 0:
        owner = os.stat(directory)
        os.fchown(handle, owner.st_uid, owner.st_gid)


def reference(name: str, generation: Generation) -> str:
    """How rows refer to a generation of a key."""
    return f"{name}#{generation.id}"


def _secret(contents: _Contents, ref: str) -> bytes | None:
    name, _, generation_id = ref.rpartition("#")
    key = contents.keys.get(name)
    for generation in key.generations if key is not None else ():
        if generation.id == generation_id:
            return generation.secret
    return None


def _parsed(path: Path, stamp: tuple[int, int, int]) -> _Contents:
    try:
        document = json.loads(path.read_text(encoding="ascii"))
        if document["format"] != _FORMAT:
            raise KeyringError(f"{path}: of format {document['format']}, this program knows {_FORMAT}")
        keys = {name: _key(name, fields) for name, fields in document["keys"].items()}
        return _Contents(str(document["id"]), keys, stamp)
    except OSError as error:
        raise KeyringError(str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KeyringError(f"{path}: not a keyring of s3lite; restore it from a backup") from None


def _key(name: str, fields: Mapping[str, list[dict[str, str]]]) -> NamedKey:
    generations = tuple(
        Generation(each["id"], each["created"], bytes.fromhex(each["secret"]))
        for each in fields["generations"]
    )
    if not generations or any(len(each.secret) != KEY_BYTES for each in generations):
        raise ValueError(name)
    return NamedKey(name, tuple(map(str, fields["aliases"])), generations)
