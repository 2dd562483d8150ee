"""What the campaigns do to a server: every operation that changes something, and what it should change.

An operation is a function of a `World` under the decorator `operation`; it wraps each request that
changes something in ``world.changing({name: state after})``. Names and states:

* ``BUCKET/KEY``: the versions of a key, newest first, each ``MD5 SIZE MARK TAGS`` or ``marker``;
* ``upload/BUCKET/KEY``: ``["open", "NUMBER MD5", …]`` of the one upload that a key may have here;
* ``bucket/BUCKET``: ``["VERSIONING"]``;
* ``outbox/BODY``: ``["waits"]`` of a callback that is to be delivered.

``[]`` is absence everywhere. To add an operation is to add a function; both the crash campaign and the
fault campaign then run it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import forms
from client import S3, Answer

from s3lite.app import Application
from s3lite.core import lifecycle
from s3lite.core.sweep import sweep
from s3lite.times import Clock

ROOT_KEY, ROOT_SECRET = "torture-key", "torture-secret"
PLAIN, VERSIONED = "plain", "versioned"
State = list[str]
Changes = Mapping[str, State]


class Refused(Exception):
    """The server answered something else than was asked for."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(repr(answer))
        self.answer = answer


class Later(Clock):
    """A clock that is ahead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def time(self) -> float:
        return super().time() + self._seconds


@dataclass
class World:
    """One client of one application, and what it has made so far. ``note`` hears of every change."""

    app: Application
    chance: random.Random
    note: Callable[[str], None] = lambda text: None
    prefix: str = ""
    is_alone: bool = True  # no other client works on the same application
    callback_url: str = ""
    states: dict[str, State] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        self.s3 = S3(self.app, ROOT_KEY, ROOT_SECRET)

    @contextmanager
    def changing(self, changes: Changes, *, atomic: bool = True) -> Iterator[str]:
        """The request inside makes these changes, all at once if ``atomic``. Yields an id for callbacks."""
        self._count += 1
        name = f"{self.prefix}{self._count}"
        self.note(f"begin {name} {json.dumps([dict(changes), atomic])}")
        yield name
        self.states.update(changes)
        self.note(f"ack {name}")

    def number(self) -> int:
        """A new one each time."""
        self._count += 1
        return self._count

    def key(self) -> str:
        """One of a few, so that much is overwritten."""
        return f"{self.prefix}k{self.chance.randrange(6)}"

    def existing(self, bucket: str = PLAIN) -> str | None:
        """A key whose newest version is an object; None when there is none."""
        found = [
            name.partition("/")[2]
            for name, state in self.states.items()
            if name.startswith(f"{bucket}/") and state and state[0] != "marker"
        ]
        return self.chance.choice(found) if found else None

    def small(self) -> bytes:
        """A body that goes into the index."""
        return self.chance.randbytes(self.chance.choice((0, 1, 100, 4096)))

    def large(self) -> bytes:
        """A body that becomes a file."""
        return self.chance.randbytes(self.chance.choice((4097, 9000, 20_000, 70_000)))


def described(body: bytes, mark: str = "", tags: str = "") -> str:
    """A version as states have it."""
    return " ".join((md5(body), str(len(body)), mark, tags))


def md5(body: bytes) -> str:
    """Hex."""
    return hashlib.md5(body).hexdigest()


def expect(answer: Answer, *statuses: int) -> Answer:
    """Raise `Refused` unless the answer has one of these statuses (200 and 204 when none is given)."""
    if answer.status not in (statuses or (200, 204)):
        raise Refused(answer)
    return answer


Operation = Callable[[World], None]
OPERATIONS: dict[str, Operation] = {}


def operation(function: Operation) -> Operation:
    """Registers an operation by its name."""
    OPERATIONS[function.__name__] = function
    return function


def set_up(world: World) -> None:
    """The buckets."""
    with world.changing({f"bucket/{PLAIN}": [""]}):
        expect(world.s3.put(f"/{PLAIN}"))
    with world.changing({f"bucket/{VERSIONED}": [""]}):
        expect(world.s3.put(f"/{VERSIONED}"))
    enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    with world.changing({f"bucket/{VERSIONED}": ["Enabled"]}):
        expect(world.s3.put(f"/{VERSIONED}?versioning", enabled))


# ---------------------------------------------------------------- objects


def _put(world: World, body: bytes, **headers: str) -> None:
    key, mark = world.key(), str(world.number())
    headers |= {"x-amz-meta-mark": mark}
    with world.changing({f"{PLAIN}/{key}": [described(body, mark)]}):
        expect(world.s3.put(f"/{PLAIN}/{key}", body, headers))


@operation
def put_small(world: World) -> None:
    _put(world, world.small())


@operation
def put_large(world: World) -> None:
    _put(world, world.large())


@operation
def put_refused_by_condition(world: World) -> None:
    key = world.existing()
    if key is not None:
        with world.changing({}):
            expect(world.s3.put(f"/{PLAIN}/{key}", world.large(), {"If-None-Match": "*"}), 412)


def _callback(world: World, body: str, **more: str) -> dict[str, str]:
    """Headers of an upload that is to be reported; the receiver takes ``op=NAME`` for proof that it was."""
    document = {"callbackUrl": world.callback_url, "callbackBody": body, **more}
    return {"x-oss-callback": forms.base64.b64encode(json.dumps(document).encode()).decode()}


@operation
def put_with_callback(world: World) -> None:
    for body in (world.small(), world.large()):
        key = world.key()
        with world.changing({f"{PLAIN}/{key}": [described(body)]}) as name:
            expect(world.s3.put(f"/{PLAIN}/{key}", body, _callback(world, f"op={name}")))


@operation
def put_with_queued_callback(world: World) -> None:
    for body in (world.small(), world.large()):
        key, message = world.key(), f"queued={world.prefix}{world.number()}"
        with world.changing({f"{PLAIN}/{key}": [described(body)], f"outbox/{message}": ["waits"]}):
            headers = _callback(world, message, callbackMode="async")
            expect(world.s3.put(f"/{PLAIN}/{key}", body, headers))


@operation
def put_through_gate(world: World) -> None:
    for body in (world.small(), world.large()):
        key = world.key()
        with world.changing({f"{PLAIN}/{key}": [described(body)]}):
            headers = _callback(world, "gate=yes", callbackMode="gate")
            expect(world.s3.put(f"/{PLAIN}/{key}", body, headers))
        with world.changing({}):
            headers = _callback(world, "gate=no", callbackMode="gate")
            expect(world.s3.put(f"/{PLAIN}/{key}", world.large(), headers), 403)


@operation
def put_encrypted(world: World) -> None:
    for body in (world.small(), world.large()):
        _put(world, body, **{"x-amz-server-side-encryption": "AES256"})


@operation
def form_post(world: World) -> None:
    for body in (world.small(), world.large()):
        key, mark = world.key(), str(world.number())
        fields = forms.v4_fields(
            ROOT_KEY, ROOT_SECRET,
            [{"bucket": PLAIN}, {"key": key}, {"x-amz-meta-mark": mark}],
        )  # fmt: skip
        pairs = [("key", key), ("x-amz-meta-mark", mark), *fields.items()]
        with world.changing({f"{PLAIN}/{key}": [described(body, mark)]}):
            document = forms.body(pairs, body)
            sent = {"Content-Type": forms.CONTENT_TYPE, "Content-Length": str(len(document))}
            expect(world.s3.send("POST", f"/{PLAIN}", "", document, sent))


@operation
def append(world: World) -> None:
    for key, sealed in (("log", {}), ("sealed-log", {"x-amz-server-side-encryption": "AES256"})):
        name = f"{PLAIN}/{world.prefix}{key}"
        found = expect(world.s3.get(f"/{name}"), 200, 404)
        before = found.body if found.status == 200 else b""
        tags = world.states[name][0].split(" ")[3] if before and world.states.get(name) else ""
        body = world.chance.choice((world.small, world.large))()
        with world.changing({name: [described(before + body, key, tags)]}):
            headers = {"x-amz-meta-mark": key} | sealed
            expect(world.s3.post(f"/{name}?append&position={len(before)}", body, headers))


@operation
def copy(world: World) -> None:
    source = world.existing()
    if source is not None:
        key = f"{world.prefix}copy{world.chance.randrange(3)}"
        if key == source:
            return
        with world.changing({f"{PLAIN}/{key}": list(world.states[f"{PLAIN}/{source}"])}):
            sealed = world.chance.choice(({}, {"x-amz-server-side-encryption": "AES256"}))
            asked = {"x-amz-copy-source": f"/{PLAIN}/{source}"}
            expect(world.s3.put(f"/{PLAIN}/{key}", headers=asked | sealed))


@operation
def rename(world: World) -> None:
    source = world.existing()
    if source is not None:
        key = f"{world.prefix}renamed{world.chance.randrange(3)}"
        if key != source:
            moved = list(world.states[f"{PLAIN}/{source}"])
            with world.changing({f"{PLAIN}/{source}": [], f"{PLAIN}/{key}": moved}):
                expect(
                    world.s3.put(f"/{PLAIN}/{key}?renameObject", headers={"x-amz-rename-source": source}), 200
                )


@operation
def tag(world: World) -> None:
    key = world.existing()
    if key is not None:
        value = str(world.number())
        digest, size, mark, _ = world.states[f"{PLAIN}/{key}"][0].split(" ")
        document = f"<Tagging><TagSet><Tag><Key>t</Key><Value>{value}</Value></Tag></TagSet></Tagging>"
        with world.changing({f"{PLAIN}/{key}": [f"{digest} {size} {mark} t={value}"]}):
            expect(world.s3.put(f"/{PLAIN}/{key}?tagging", document.encode()))


@operation
def delete(world: World) -> None:
    key = world.existing()
    if key is not None:
        with world.changing({f"{PLAIN}/{key}": []}):
            expect(world.s3.delete(f"/{PLAIN}/{key}"))


@operation
def delete_several(world: World) -> None:
    keys = {world.key() for _ in range(3)}
    rows = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    with world.changing({f"{PLAIN}/{key}": [] for key in keys}):
        expect(world.s3.post(f"/{PLAIN}?delete", f"<Delete>{rows}</Delete>".encode()))


# ---------------------------------------------------------------- versions


@operation
def versioned_put(world: World) -> None:
    body, key, mark = world.chance.choice((world.small, world.large))(), world.key(), str(world.number())
    name = f"{VERSIONED}/{key}"
    with world.changing({name: [described(body, mark), *world.states.get(name, [])]}):
        expect(world.s3.put(f"/{name}", body, {"x-amz-meta-mark": mark}))


@operation
def versioned_delete(world: World) -> None:
    name = f"{VERSIONED}/{world.key()}"
    with world.changing({name: ["marker", *world.states.get(name, [])]}):
        expect(world.s3.delete(f"/{name}"))


@operation
def delete_a_version(world: World) -> None:
    key = world.existing(VERSIONED)
    if key is None:
        return
    name = f"{VERSIONED}/{key}"
    listed = world.s3.get(f"/{VERSIONED}?versions&prefix={key}").xml
    rows = [row for row in listed if row.tag in ("Version", "DeleteMarker") and row.findtext("Key") == key]
    index = world.chance.randrange(len(rows))
    state = world.states[name]
    with world.changing({name: state[:index] + state[index + 1 :]}):
        expect(world.s3.delete(f"/{name}?versionId={rows[index].findtext('VersionId')}"))


# ---------------------------------------------------------------- multipart


def _start(world: World) -> tuple[str, str, str]:
    key, mark = f"{world.prefix}mp{world.number()}", str(world.number())
    sealed = world.chance.choice(({}, {"x-amz-server-side-encryption": "AES256"}))
    with world.changing({f"upload/{PLAIN}/{key}": ["open"]}):
        answer = expect(world.s3.post(f"/{PLAIN}/{key}?uploads", headers={"x-amz-meta-mark": mark} | sealed))
    return key, answer.text("UploadId") or "", mark


def _part(world: World, key: str, upload_id: str, number: int, body: bytes) -> str:
    name = f"upload/{PLAIN}/{key}"
    others = [row for row in world.states[name] if not row.startswith(f"{number} ")]
    with world.changing({name: sorted([*others, f"{number} {md5(body)}"], key=_part_order)}):
        answer = expect(world.s3.put(f"/{PLAIN}/{key}?partNumber={number}&uploadId={upload_id}", body))
    return str(answer.headers["ETag"])


def _part_order(row: str) -> int:
    return 0 if row == "open" else int(row.split(" ")[0])


@operation
def multipart(world: World) -> None:
    key, upload_id, mark = _start(world)
    bodies = [world.large(), world.chance.randbytes(2000), world.small() or b"x"]
    etags = {n: _part(world, key, upload_id, n, body) for n, body in enumerate(bodies, 1)}
    if world.chance.random() < 0.5:
        bodies[0] = world.large()
        etags[1] = _part(world, key, upload_id, 1, bodies[0])
    whole = b"".join(bodies)
    done = {f"upload/{PLAIN}/{key}": [], f"{PLAIN}/{key}": [described(whole, mark)]}
    with world.changing(done):
        expect(world.s3.complete(f"/{PLAIN}/{key}", upload_id, etags))


@operation
def abort(world: World) -> None:
    key, upload_id, _ = _start(world)
    _part(world, key, upload_id, 1, world.large())
    with world.changing({f"upload/{PLAIN}/{key}": []}):
        expect(world.s3.delete(f"/{PLAIN}/{key}?uploadId={upload_id}"))


@operation
def part_by_copy(world: World) -> None:
    source = world.existing()
    if source is None or world.states[f"{PLAIN}/{source}"][0].split(" ")[1] == "0":
        return
    digest, size, *_ = world.states[f"{PLAIN}/{source}"][0].split(" ")
    if source.startswith(f"{world.prefix}mp"):
        return  # of several blobs: its part would have to be assembled, and its MD5 is not its ETag
    key, upload_id, mark = _start(world)
    name = f"upload/{PLAIN}/{key}"
    with world.changing({name: ["open", f"1 {digest}"]}):
        answer = expect(
            world.s3.put(
                f"/{PLAIN}/{key}?partNumber=1&uploadId={upload_id}",
                headers={"x-amz-copy-source": f"/{PLAIN}/{source}"},
            )
        )
    etags = {1: answer.text("ETag") or ""}
    with world.changing({name: [], f"{PLAIN}/{key}": [f"{digest} {size} {mark} "]}):
        expect(world.s3.complete(f"/{PLAIN}/{key}", upload_id, etags))


# ---------------------------------------------------------------- upkeep


@operation
def upkeep(world: World) -> None:
    with world.changing({}):
        store = world.app.services.store
        ahead = replace(store, clock=Later(120)) if world.is_alone else store
        sweep(ahead, orphans=world.is_alone, rules=False)


@operation
def checkpoint(world: World) -> None:
    with world.changing({}):
        world.app.services.store.catalog.checkpoint(truncate=world.chance.random() < 0.3)


@operation
def expire_by_rule(world: World) -> None:
    prefix = f"{world.prefix}old{world.number()}/"
    for number in range(3):
        body = world.large() if number else world.small()
        for bucket in (PLAIN, VERSIONED):
            with world.changing({f"{bucket}/{prefix}{number}": [described(body)]}):
                expect(world.s3.put(f"/{bucket}/{prefix}{number}", body))
    rule = (
        f"<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter><Prefix>{prefix}</Prefix></Filter>"
        "<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
    )
    for bucket in (PLAIN, VERSIONED):
        expect(world.s3.put(f"/{bucket}?lifecycle", rule.encode()))
    gone: dict[str, State] = {}
    for number in range(3):
        gone[f"{PLAIN}/{prefix}{number}"] = []
        name = f"{VERSIONED}/{prefix}{number}"
        gone[name] = ["marker", *world.states[name]]
    with world.changing(gone, atomic=False):
        lifecycle.run(replace(world.app.services.store, clock=Later(3 * 86400)))
    for bucket in (PLAIN, VERSIONED):
        expect(world.s3.delete(f"/{bucket}?lifecycle"))
