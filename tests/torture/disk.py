"""A model of a file system between the page cache and the disk, and what a power cut may leave of it.

Built from recorded calls (`trace`). The rules, which are those that a program may rely on and no more:

* bytes and length of a file are on disk once a sync of that file has ended that began after the write;
* a name is on disk once a sync of its directory has ended that began after the name was entered or removed;
* before that, each write may be there or not, whole or by sectors of 512 bytes, in any order; a length
  that grew without its bytes shows zeros;
* a file without any name is gone, whatever was synced. A rename puts the new name and takes the old one
  at once;
* ``index.db-shm`` is shared memory: it never survives.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from torture.trace import Call

SECTOR = 512
MARK = b"s3lite-torture "


@dataclass(eq=False, repr=False, slots=True)
class Node:
    """A file or directory. ``durable`` is what is on disk, ``pending`` what only the page cache has."""

    number: int
    is_directory: bool
    label: str = ""  # the name it got first, for messages and for choosing syncs
    data: bytearray = field(default_factory=bytearray)
    names: dict[str, Node] = field(default_factory=dict)
    pending: list[Step] = field(default_factory=list)
    first: tuple[bytes, dict[str, Node]] = (b"", {})  # data and names before the first step

    def forget(self) -> None:
        """Back to before the first step."""
        self.data[:] = self.first[0]
        self.names = dict(self.first[1])
        self.pending.clear()


@dataclass(eq=False, repr=False, slots=True)
class Step:
    """Something that happened: one of data (write or truncate), name, sync, mark."""

    kind: str
    position: int  # when it ended, in the recording
    node: Node | None = None
    offset: int = 0
    data: bytes = b""
    name: str = ""
    target: Node | None = None  # of a name; None takes it away
    also: tuple[Node, str] | None = None  # a rename's old place
    begun: int = 0  # of a sync
    text: str = ""  # of a mark, or how a sync is called


class Reader:
    """Turns calls into steps, following descriptors and the name space as the program saw them."""

    def __init__(self, root: Path) -> None:
        """``root`` is as it was before the program ran, and all of that is on disk."""
        self.root_path = str(root)
        self._count = -1
        self._seen: dict[int, dict[str, Node]] = {}  # the live name space, by directory number
        self._handles: dict[int, list] = {}  # descriptor → [node or None, position, path]
        self.root = self._node(True, "/")
        self._load(root, self.root)

    def _load(self, path: Path, directory: Node) -> None:
        for entry in sorted(path.iterdir()):
            node = self._node(entry.is_dir(), entry.name)
            self._seen[directory.number][entry.name] = node
            if node.is_directory:
                self._load(entry, node)
            else:
                node.first = entry.read_bytes(), {}
            node.forget()
        directory.first = b"", dict(self._seen[directory.number])
        directory.forget()

    def steps(self, calls: Iterable[Call]) -> Iterator[Step]:
        """All steps, in order."""
        for call in calls:
            take = getattr(self, f"_{call.name}", None)
            if take is not None:
                yield from take(call) or ()

    # ------------------------------------------------------------ names

    def _node(self, is_directory: bool, label: str) -> Node:
        self._count += 1
        if is_directory:
            self._seen[self._count] = {}
        return Node(self._count, is_directory, label)

    def _path(self, where: str, path: bytes) -> str:
        text = path.decode()
        if text.startswith("/"):
            return text
        if where in ("", "AT_FDCWD"):
            return text  # outside: the driver only uses absolute paths
        return f"{self._handles[int(where)][2]}/{text}" if int(where) in self._handles else text

    def _find(self, path: str) -> tuple[Node, str, Node | None] | None:
        """Directory, name and node of a path; None when it is outside of what is modelled."""
        if path == self.root_path:
            return self.root, "", self.root
        if not path.startswith(self.root_path + "/"):
            return None
        *parents, name = path[len(self.root_path) + 1 :].rstrip("/").split("/")
        directory = self.root
        for parent in parents:
            found = self._seen[directory.number].get(parent)
            if found is None:
                return None
            directory = found
        return directory, name, self._seen[directory.number].get(name)

    def _enter(self, call: Call, directory: Node, name: str, node: Node | None, **more: object) -> Step:
        if node is None:
            self._seen[directory.number].pop(name, None)
        else:
            self._seen[directory.number][name] = node
        return Step("name", call.ended, directory, name=name, target=node, **more)  # type: ignore[arg-type]

    # ------------------------------------------------------------ calls

    def _openat(self, call: Call) -> Iterator[Step]:
        where, path, flags = call.arguments[0], call.arguments[1], str(call.arguments[2])
        yield from self._opened(call, self._path(str(where), path), flags)  # type: ignore[arg-type]

    def _open(self, call: Call) -> Iterator[Step]:
        yield from self._opened(call, self._path("", call.arguments[0]), str(call.arguments[1]))  # type: ignore[arg-type]

    def _opened(self, call: Call, path: str, flags: str) -> Iterator[Step]:
        found = self._find(path)
        node = None
        if found is not None:
            directory, name, node = found
            if "O_TMPFILE" in flags:
                node = self._node(False, "blob")
            elif node is None and "O_CREAT" in flags:
                node = self._node(False, name)
                yield self._enter(call, directory, name, node)
            elif node is not None and "O_TRUNC" in flags:
                yield Step("truncate", call.ended, node)
        self._handles[call.result] = [node, 0, path]

    def _close(self, call: Call) -> None:
        self._handles.pop(int(call.arguments[0]), None)

    def _dup(self, call: Call) -> None:
        if int(call.arguments[0]) in self._handles:
            self._handles[call.result] = self._handles[int(call.arguments[0])]

    _dup2 = _dup3 = _dup

    def _fcntl(self, call: Call) -> None:
        if str(call.arguments[1]).startswith("F_DUPFD"):
            self._dup(call)

    def _lseek(self, call: Call) -> None:
        if int(call.arguments[0]) in self._handles:
            self._handles[int(call.arguments[0])][1] = call.result

    def _write(self, call: Call) -> Iterator[Step]:
        data = call.arguments[1]
        assert isinstance(data, bytes)
        if data.startswith(MARK):
            yield Step("mark", call.ended, text=data[len(MARK) :].decode())
            return
        handle = self._handles.get(int(call.arguments[0]))
        if handle is not None and handle[0] is not None:
            yield Step("data", call.ended, handle[0], offset=handle[1], data=data[: call.result])
            handle[1] += call.result

    def _pwrite64(self, call: Call) -> Iterator[Step]:
        handle = self._handles.get(int(call.arguments[0]))
        if handle is not None and handle[0] is not None:
            data = call.arguments[1]
            assert isinstance(data, bytes)
            yield Step("data", call.ended, handle[0], offset=int(call.arguments[3]), data=data[: call.result])

    def _unknown(self, call: Call) -> None:
        handle = self._handles.get(int(call.arguments[0]))
        if handle is not None and handle[0] is not None:
            raise NotImplementedError(f"the model does not know {call.name}: {call.arguments}")

    _pwritev = _pwritev2 = _writev = _copy_file_range = _unknown

    def _sendfile(self, call: Call) -> None:
        self._unknown(call)

    def _ftruncate(self, call: Call) -> Iterator[Step]:
        handle = self._handles.get(int(call.arguments[0]))
        if handle is not None and handle[0] is not None:
            yield Step("truncate", call.ended, handle[0], offset=int(call.arguments[1]))

    def _fallocate(self, call: Call) -> Iterator[Step]:
        handle = self._handles.get(int(call.arguments[0]))
        if handle is not None and handle[0] is not None and call.arguments[1] == "0":
            size = int(call.arguments[2]) + int(call.arguments[3])
            yield Step("extend", call.ended, handle[0], offset=size)

    def _fsync(self, call: Call) -> Iterator[Step]:
        handle = self._handles.get(int(call.arguments[0]))
        if handle is not None and handle[0] is not None:
            node = handle[0]
            text = f"directory {node.label}" if node.is_directory else node.label
            yield Step("sync", call.ended, node, begun=call.begun, text=text)

    _fdatasync = _fsync

    def _linkat(self, call: Call) -> Iterator[Step]:
        source, target = call.arguments[1], call.arguments[3]
        assert isinstance(source, bytes)
        assert isinstance(target, bytes)
        found = self._find(self._path(str(call.arguments[2]), target))
        if found is None:
            return
        if source.startswith(b"/proc/self/fd/"):
            node = self._handles[int(source[14:])][0]
        else:
            origin = self._find(self._path(str(call.arguments[0]), source))
            node = origin[2] if origin else None
        assert node is not None
        yield self._enter(call, found[0], found[1], node)

    def _link(self, call: Call) -> Iterator[Step]:
        source, target = call.arguments[0], call.arguments[1]
        yield from self._linkat(Call("linkat", ("", source, "", target), 0, call.begun, call.ended))

    def _renameat(self, call: Call) -> Iterator[Step]:
        old = self._find(self._path(str(call.arguments[0]), call.arguments[1]))  # type: ignore[arg-type]
        new = self._find(self._path(str(call.arguments[2]), call.arguments[3]))  # type: ignore[arg-type]
        if old is None or new is None:
            return
        self._seen[old[0].number].pop(old[1])
        yield self._enter(call, new[0], new[1], old[2], also=(old[0], old[1]))

    _renameat2 = _renameat

    def _rename(self, call: Call) -> Iterator[Step]:
        paths = ("", call.arguments[0], "", call.arguments[1])
        yield from self._renameat(Call("renameat", paths, 0, call.begun, call.ended))

    def _unlinkat(self, call: Call) -> Iterator[Step]:
        found = self._find(self._path(str(call.arguments[0]), call.arguments[1]))  # type: ignore[arg-type]
        if found is not None:
            yield self._enter(call, found[0], found[1], None)

    def _unlink(self, call: Call) -> Iterator[Step]:
        yield from self._unlinkat(Call("unlinkat", ("", call.arguments[0]), 0, call.begun, call.ended))

    _rmdir = _unlink

    def _mkdirat(self, call: Call) -> Iterator[Step]:
        found = self._find(self._path(str(call.arguments[0]), call.arguments[1]))  # type: ignore[arg-type]
        if found is not None:
            yield self._enter(call, found[0], found[1], self._node(True, found[1]))

    def _mkdir(self, call: Call) -> Iterator[Step]:
        yield from self._mkdirat(Call("mkdirat", ("", call.arguments[0]), 0, call.begun, call.ended))


class Disk:
    """Where the steps so far have led: `take` them one by one, then `cut` the power."""

    def __init__(self, root: Node, *, ignored: Callable[[Step], bool] = lambda step: False) -> None:
        self.root = root
        self._nodes: dict[int, Node] = {root.number: root}
        self._ignored = ignored  # syncs that are taken for done and do nothing: to see that tests notice

    def take(self, step: Step) -> None:
        """One more step. A sync makes durable what had ended when it began."""
        if step.kind == "mark":
            return
        node = step.node
        assert node is not None
        self._nodes[node.number] = node
        if step.kind != "sync":
            node.pending.append(step)
            return
        if self._ignored(step):
            return
        done = [each for each in node.pending if each.position < step.begun]
        node.pending = [each for each in node.pending if each.position >= step.begun]
        for each in done:
            _apply(node, each)
            if each.also is not None:
                # The old name went in the same transaction; a later sync of its directory is no matter.
                _take_name(each.also[0], each.also[1], each)

    def pending(self) -> int:
        """How many steps a power cut could lose."""
        return sum(len(node.pending) for node in self._nodes.values())

    def cut(self, how: str, chance: random.Random) -> Image:
        """What is on disk after a power cut now. ``how``: lost, kept, ordered, any."""
        image = Image(self.root)
        keep = {"lost": 0.0, "kept": 1.0}.get(how, chance.choice((0.05, 0.3, 0.5, 0.7, 0.95)))
        names = sorted(
            (step for node in self._nodes.values() if node.is_directory for step in node.pending),
            key=lambda step: step.position,
        )
        if how in ("lost", "kept"):
            image.names(names if how == "kept" else [])
        elif how == "ordered":  # as a journal does: what came first is there first
            image.names(names[: chance.randint(0, len(names))])
        else:
            image.names(_per_name(names, keep, chance))
        for node in self._nodes.values():
            if not node.is_directory and node.pending:
                image.contents[node.number] = _torn(node, keep, chance)
        return image


def _per_name(names: list[Step], keep: float, chance: random.Random) -> list[Step]:
    """Of the steps on each name the first few, independently of all others."""
    ended: set[tuple[int, str]] = set()
    chosen = []
    for step in names:
        assert step.node is not None
        if (step.node.number, step.name) in ended:
            continue
        if chance.random() < keep:
            chosen.append(step)
        else:
            ended.add((step.node.number, step.name))
    return chosen


def _torn(node: Node, keep: float, chance: random.Random) -> bytes:
    """The file with some of its pending writes, some of them in parts."""
    data = bytearray(node.data)
    for step in node.pending:
        fate = chance.random()
        if fate < keep:
            _change(data, step)
        elif keep and fate < keep + (1 - keep) / 3 and step.kind == "data":
            _change_sectors(data, step, chance)
    return bytes(data)


def _change_sectors(data: bytearray, step: Step, chance: random.Random) -> None:
    """Some sectors of a write: its beginning, or any."""
    border = -step.offset % SECTOR
    cuts = [0, *range(border or SECTOR, len(step.data), SECTOR), len(step.data)]
    prefix = chance.randrange(len(cuts)) if chance.random() < 0.5 else None
    for index, (begin, end) in enumerate(pairwise(cuts)):
        if index < prefix if prefix is not None else chance.random() < 0.5:
            _overwrite(data, step.offset + begin, step.data[begin:end])


def _apply(node: Node, step: Step) -> None:
    if node.is_directory:
        if step.target is None:
            node.names.pop(step.name, None)
        else:
            node.names[step.name] = step.target
    else:
        _change(node.data, step)


def _take_name(directory: Node, name: str, renamed: Step) -> None:
    if directory.names.get(name) is renamed.target:
        del directory.names[name]
    # A name that was entered but not yet durable can no longer become so.
    directory.pending = [
        each
        for each in directory.pending
        if not (each.name == name and each.target is renamed.target and each.position < renamed.position)
    ]


def _change(data: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del data[step.offset :]
        data.extend(bytes(step.offset - len(data)))
    elif step.kind == "extend":
        data.extend(bytes(max(0, step.offset - len(data))))
    else:
        _overwrite(data, step.offset, step.data)


def _overwrite(data: bytearray, offset: int, piece: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(piece)] = piece


class Image:
    """A tree of files as a power cut left it."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._names: dict[int, dict[str, Node]] = {}
        self.contents: dict[int, bytes] = {}  # of files that differ from what is durable

    def names(self, steps: Iterable[Step]) -> None:
        """Directory changes that made it to the disk."""
        for step in steps:
            assert step.node is not None
            names = self._of(step.node)
            if step.target is None:
                names.pop(step.name, None)
            else:
                names[step.name] = step.target
            if step.also is not None:
                old = self._of(step.also[0])
                if old.get(step.also[1]) is step.target:
                    del old[step.also[1]]

    def _of(self, directory: Node) -> dict[str, Node]:
        return self._names.setdefault(directory.number, dict(directory.names))

    def files(self) -> Iterator[tuple[str, bytes | bytearray | None]]:
        """Path relative to the root, and contents; None for a directory."""
        waiting = [("", self._root)]
        while waiting:
            path, directory = waiting.pop()
            names = self._names.get(directory.number, directory.names)
            for name, node in sorted(names.items()):
                where = f"{path}{name}"
                if node.is_directory:
                    yield where, None
                    waiting.append((f"{where}/", node))
                elif not name.endswith("-shm"):
                    yield where, self.contents.get(node.number, node.data)

    def digest(self) -> bytes:
        """Equal for equal trees."""
        found = hashlib.blake2b(digest_size=16)
        for path, data in self.files():
            found.update(path.encode() + b"\0" + (b"d" if data is None else b"%d:" % len(data)))
            found.update(data or b"")
        return found.digest()

    def write(self, directory: Path) -> None:
        """Put the tree into an empty directory."""
        for path, data in self.files():
            where = directory / path
            if data is None:
                where.mkdir()
            else:
                where.write_bytes(data)
