"""The catalog's questions as SQL, for every engine; its changes are in `sql_write`.

An engine brings a `Session`. Statements use ``?`` for values and stay within what SQLite and
PostgreSQL share (RETURNING, ON CONFLICT, UPDATE … FROM, row values). The one exception is
``json_each(?)``, the members of a JSON array as column ``value``: a driver for PostgreSQL writes
``jsonb_array_elements_text(?::jsonb) AS each (value)`` in its place, and ``%s`` for ``?``.
"""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Protocol

from s3lite.catalog import rows
from s3lite.catalog.questions import Garbage
from s3lite.catalog.rows import Row
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql_access_log import AccessLogQuestions
from s3lite.catalog.sql_annotations import AnnotationQuestions
from s3lite.catalog.sql_outbox import OutboxReadSql
from s3lite.catalog.sql_pending import PendingQuestions
from s3lite.catalog.sql_quota import FAULTS, QuotaQuestions
from s3lite.model import (
    AccessKey,
    Account,
    BlobId,
    Bucket,
    Completion,
    ListedKind,
    ListedObject,
    ListedVersion,
    ObjectVersion,
    Part,
    Segment,
    Upload,
)

_NO_LIMIT = 1 << 62
_NO_UPPER = b"\xff"  # above every UTF-8 text

_KEYS = f"SELECT {rows.KEY_COLUMNS} FROM access_keys JOIN accounts ON accounts.id = account_id"
_BUCKETS = f"SELECT {rows.BUCKET_COLUMNS} FROM buckets"
_VERSIONS = f"SELECT {rows.VERSION_COLUMNS} FROM versions"
_BUCKET_AND_CURRENT = (
    f"SELECT {rows.of('buckets', rows.BUCKET_COLUMNS)}, {rows.of('versions', rows.VERSION_COLUMNS)} FROM buckets "
    "LEFT JOIN versions ON versions.row = (SELECT row FROM versions WHERE bucket_id = buckets.id AND key = ? "
    "ORDER BY row DESC LIMIT 1) WHERE name = ?"
)
_LISTED = f"SELECT {rows.LISTED_COLUMNS} FROM versions"
_UPLOADS = f"SELECT {rows.UPLOAD_COLUMNS} FROM uploads"
_PARTS = f"SELECT {rows.PART_COLUMNS} FROM parts WHERE upload_row = ?"

# From each key to the next that is not below the same common prefix. The next is sought from behind it: its
# delimiter replaced by the delimiter's successor, which no key below begins with.
_CUT = "instr(substr(walk.key, CAST(begin AS int)), mark)"
_NEXT = """SELECT key FROM versions
    WHERE bucket_id = ? AND key >= {lower} AND key < ? AND is_latest AND NOT is_delete_marker
    ORDER BY key LIMIT 1"""
_AFTER = f"""CAST(CASE WHEN {_CUT} > 0
    THEN substr(walk.key, 1, CAST(begin - 2 + {_CUT} AS int)) || behind ELSE walk.key || low END AS BLOB)"""
_WALK = f"""
WITH RECURSIVE given (begin, mark, behind, low) AS (
    SELECT CAST(? AS INTEGER), CAST(? AS BLOB), CAST(? AS BLOB), CAST(? AS BLOB)),
walk (step, key) AS (
    SELECT 1, ({_NEXT.format(lower="?")})
    UNION ALL
    SELECT step + 1, ({_NEXT.format(lower=_AFTER)})
    FROM walk CROSS JOIN given WHERE walk.key IS NOT NULL AND step < CAST(? AS INTEGER)),
stops (key, cut) AS (SELECT walk.key, {_CUT} FROM walk CROSS JOIN given WHERE walk.key IS NOT NULL)
SELECT stops.key, cut, {rows.LISTED_COLUMNS[5:]}
FROM stops LEFT JOIN versions
ON cut = 0 AND bucket_id = ? AND versions.key = stops.key AND is_latest AND NOT is_delete_marker"""

_LIST_VERSIONS = f"""
SELECT * FROM (
    SELECT {rows.LISTED_VERSION_COLUMNS} FROM versions
    WHERE bucket_id = ? AND key = ? AND row < ? ORDER BY row DESC LIMIT ?) AS same_key
UNION ALL
SELECT * FROM (
    SELECT {rows.LISTED_VERSION_COLUMNS} FROM versions
    WHERE bucket_id = ? AND key > ? AND key < ? ORDER BY key, row DESC LIMIT ?) AS later_keys
LIMIT ?"""

_COUNTS = """
SELECT (SELECT count(*) FROM buckets) AS buckets,
       (SELECT count(*) FROM versions WHERE is_latest AND NOT is_delete_marker) AS objects,
       (SELECT count(*) FROM versions) AS versions,
       (SELECT coalesce(sum(size), 0) FROM blobs) AS bytes,
       (SELECT count(*) FROM uploads) AS uploads,
       (SELECT count(*) FROM parts) AS parts,
       (SELECT count(*) FROM pending WHERE token_hash <> '') AS pending,
       (SELECT count(*) FROM blobs) AS blobs,
       (SELECT count(*) FROM inline) AS inline,
       (SELECT count(*) FROM garbage) AS garbage"""
_COUNTED = (
    "buckets",
    "objects",
    "versions",
    "bytes",
    "uploads",
    "parts",
    "pending",
    "blobs",
    "inline",
    "garbage",
)

# Bytes as they are kept: encrypted ones have a tag of 16 bytes for each 64 KiB (`crypto.segments`).
_KEPT = "CASE WHEN {sealed} <> '' THEN size + 16 * ((size + 65535) / 65536) ELSE size END AS size"
_KEPT_PART = _KEPT.format(sealed="sealed_key")
_HOLDERS = f"""(
    SELECT 'version ' || row AS holder, blob, {_KEPT.format(sealed="encryption")}
    FROM versions WHERE blob IS NOT NULL
    UNION ALL SELECT 'segment ' || row || '/' || part_number, blob, {_KEPT_PART}
    FROM segments WHERE blob IS NOT NULL
    UNION ALL SELECT 'part ' || upload_row || '/' || part_number, blob, {_KEPT_PART}
    FROM parts WHERE blob IS NOT NULL
    UNION ALL SELECT 'pending upload ' || row, blob, {_KEPT.format(sealed="encryption")}
    FROM pending WHERE blob IS NOT NULL
    UNION ALL SELECT 'annotation of version ' || row, blob, {_KEPT_PART}
    FROM annotations WHERE blob IS NOT NULL
) AS holders"""
_FAULTS = tuple(
    statement + " LIMIT ?"
    for statement in (
        f"""SELECT 'blob ' || id || ': counts ' || refs || ' references, has ' || coalesce(n, 0)
        FROM blobs LEFT JOIN (SELECT blob, count(*) AS n FROM {_HOLDERS} GROUP BY blob) AS held
        ON held.blob = id WHERE refs <> coalesce(n, 0)""",
        f"""SELECT holder || ': blob ' || blob || ' has no row'
        FROM {_HOLDERS} LEFT JOIN blobs ON id = blob WHERE id IS NULL""",
        f"""SELECT holder || ': says ' || holders.size || ' bytes, blob ' || blob || ' has ' || blobs.size
        FROM {_HOLDERS} JOIN blobs ON id = blob WHERE holders.size <> blobs.size""",
        """SELECT 'blob ' || id || ': unreferenced, but not garbage'
        FROM blobs LEFT JOIN garbage ON blob = id WHERE refs = 0 AND blob IS NULL""",
        """SELECT 'blob ' || id || ': garbage, but referenced'
        FROM garbage JOIN blobs ON blob = id WHERE refs <> 0""",
        """SELECT 'blob ' || id || ': inline bytes missing or of another length'
        FROM blobs LEFT JOIN inline ON inline.row = inline_row
        WHERE inline_row IS NOT NULL AND coalesce(length(data), -1) <> size""",
        """SELECT 'inline row ' || row || ': belongs to no blob'
        FROM inline WHERE row NOT IN (SELECT inline_row FROM blobs WHERE inline_row IS NOT NULL)""",
        """SELECT 'version ' || row || ': wrongly marked latest or not'
        FROM versions AS v WHERE is_latest <>
        (row = (SELECT max(row) FROM versions AS w WHERE w.bucket_id = v.bucket_id AND w.key = v.key))""",
        """SELECT 'version ' || versions.row || ': segments disagree in number or size'
        FROM versions LEFT JOIN
        (SELECT row, count(*) AS n, sum(size) AS total FROM segments GROUP BY row) AS found
        ON found.row = versions.row
        WHERE part_count <> coalesce(n, 0) OR (part_count > 0 AND size <> total)""",
        FAULTS,
        """SELECT 'version ' || versions.row || ': counts ' || annotations || ' annotations, has ' || coalesce(n, 0)
        FROM versions LEFT JOIN (SELECT row, count(*) AS n FROM annotations GROUP BY row) AS found
        ON found.row = versions.row WHERE annotations <> coalesce(n, 0)""",
    )
)


class Session(Protocol):
    """One connection of an engine. Errors are those of `Catalog.write`."""

    def one(self, sql: str, values: Sequence[object] = ()) -> Row | None:
        """The only row, or None. The statement is finished on return."""

    def all(self, sql: str, values: Sequence[object] = ()) -> list[Row]:
        """Every row."""

    def run(self, sql: str, values: Sequence[object] = ()) -> int:
        """Change something; how many rows were changed."""

    def later(self, sql: str, values: Sequence[object] = ()) -> None:
        """Change something before the next statement, or with the commit. Its errors may be raised only there."""


class SqlRead(OutboxReadSql, PendingQuestions, AccessLogQuestions, QuotaQuestions, AnnotationQuestions):
    """`ReadTx` on a session."""

    def __init__(self, session: Session, secrets: SecretBox) -> None:
        self._session = session
        self._secrets = secrets
        self._usual = ListedKind("", "STANDARD", "", "")

    # -- accounts and keys

    def account(self, account_id: str) -> Account | None:
        row = self._session.one(f"SELECT {rows.ACCOUNT_COLUMNS} FROM accounts WHERE id = ?", (account_id,))
        return rows.account(row) if row else None

    def account_by_email(self, email: str) -> Account | None:
        """The oldest with this address; "" is nobody's."""
        row = self._session.one(
            f"SELECT {rows.ACCOUNT_COLUMNS} FROM accounts WHERE email = ? AND email <> '' "
            "ORDER BY created_ms LIMIT 1",
            (email,),
        )
        return rows.account(row) if row else None

    def accounts(self) -> list[Account]:
        found = self._session.all(f"SELECT {rows.ACCOUNT_COLUMNS} FROM accounts ORDER BY id")
        return [rows.account(row) for row in found]

    def access_key(self, access_key: str) -> AccessKey | None:
        row = self._session.one(_KEYS + " WHERE access_key = ?", (access_key,))
        return self._opened_key(row) if row else None

    def access_keys(self, account_id: str | None = None) -> list[AccessKey]:
        if account_id is None:
            found = self._session.all(_KEYS + " ORDER BY access_key")
        else:
            found = self._session.all(_KEYS + " WHERE account_id = ? ORDER BY access_key", (account_id,))
        return [self._opened_key(row) for row in found]

    def _opened_key(self, row: Row) -> AccessKey:
        access_key, secret, webhook, enabled, callback, created_ms, policy, rate = row[:8]
        return AccessKey(
            access_key,
            self._secrets.open(secret, context=f"secret_key {access_key}").decode(),
            rows.account(row[8:]),
            bool(enabled),
            callback,
            self._secrets.open(webhook, context=f"webhook_secret {access_key}").decode(),
            created_ms,
            policy,
            rows.decode_rate(rate),
        )

    # -- buckets

    def bucket(self, name: str) -> Bucket | None:
        row = self._session.one(_BUCKETS + " WHERE name = ?", (name,))
        return rows.bucket(row) if row else None

    def bucket_and_current(self, name: str, key: str) -> tuple[Bucket, ObjectVersion | None] | None:
        row = self._session.one(_BUCKET_AND_CURRENT, (key.encode(), name))
        if row is None:
            return None
        of_bucket, of_version = row[: rows.BUCKET_WIDTH], row[rows.BUCKET_WIDTH :]
        is_there = of_version[0] is not None
        return rows.bucket(of_bucket), rows.object_version(of_version) if is_there else None

    def buckets(
        self,
        *,
        owner_id: str | None,
        prefix: str = "",
        region: str | None = None,
        after: str = "",
        limit: int | None = None,
    ) -> list[Bucket]:
        condition = " WHERE name > ? AND name >= ? AND name < ? ORDER BY name LIMIT ?"
        values: list[object] = [after, prefix, prefix + "\U0010ffff", _NO_LIMIT if limit is None else limit]
        for column, value in (("owner_id", owner_id), ("region", region)):
            if value is not None:
                condition = condition.replace("WHERE", f"WHERE {column} = ? AND")
                values.insert(0, value)
        return [rows.bucket(row) for row in self._session.all(_BUCKETS + condition, values)]

    def bucket_is_empty(self, bucket_id: int) -> bool:
        return self._session.one("SELECT 1 FROM versions WHERE bucket_id = ? LIMIT 1", (bucket_id,)) is None

    def bucket_config(self, bucket_id: int, name: str) -> bytes | None:
        row = self._session.one(
            "SELECT document FROM bucket_configs WHERE bucket_id = ? AND name = ?", (bucket_id, name)
        )
        return row[0] if row else None

    # -- objects

    def current_version(self, bucket_id: int, key: str) -> ObjectVersion | None:
        row = self._session.one(
            _VERSIONS + " WHERE bucket_id = ? AND key = ? ORDER BY row DESC LIMIT 1",
            (bucket_id, key.encode()),
        )
        return rows.object_version(row) if row else None

    def version(self, bucket_id: int, key: str, version_id: str) -> ObjectVersion | None:
        row = self._session.one(
            _VERSIONS + " WHERE bucket_id = ? AND key = ? AND version_id = ?",
            (bucket_id, key.encode(), version_id),
        )
        return rows.object_version(row) if row else None

    def versions_after(self, row: int, limit: int) -> list[ObjectVersion]:
        """Every version in order of rows, for `Catalog.iter_versions`."""
        found = self._session.all(_VERSIONS + " WHERE row > ? ORDER BY row LIMIT ?", (row, limit))
        return [rows.object_version(each) for each in found]

    def segments(self, row: int, *, after: int = 0, limit: int | None = None) -> list[Segment]:
        found = self._session.all(
            f"SELECT {rows.SEGMENT_COLUMNS} FROM segments WHERE row = ? AND part_number > ? "
            "ORDER BY part_number LIMIT ?",
            (row, after, _NO_LIMIT if limit is None else limit),
        )
        return [rows.segment(each) for each in found]

    def inline_data(self, blob: BlobId) -> bytes | None:
        row = self._session.one(
            "SELECT data FROM inline WHERE row = (SELECT inline_row FROM blobs WHERE id = ?)", (blob,)
        )
        return row[0] if row else None

    def sealed_checksum(self, blob: BlobId) -> str:
        row = self._session.one("SELECT sealed_checksum FROM blobs WHERE id = ?", (blob,))
        return row[0] if row else ""

    def versions_under(self, master: str, *, after: int = 0, limit: int) -> list[ObjectVersion]:
        found = self._session.all(
            _VERSIONS + " WHERE master = ? AND master <> '' AND row > ? ORDER BY row LIMIT ?",
            (master, after, limit),
        )
        return [rows.object_version(row) for row in found]

    def uploads_under(self, master: str, *, after: int = 0, limit: int) -> list[Upload]:
        found = self._session.all(
            _UPLOADS + " WHERE master = ? AND master <> '' AND row > ? ORDER BY row LIMIT ?",
            (master, after, limit),
        )
        return [rows.upload(row) for row in found]

    def count_by_master(self) -> dict[str, int]:
        counted: dict[str, int] = {}
        for table in ("versions", "uploads"):
            for master, number in self._session.all(
                f"SELECT master, count(*) FROM {table} WHERE master <> '' GROUP BY master"
            ):
                counted[master] = counted.get(master, 0) + number
        return counted

    def list_objects(
        self, bucket_id: int, *, lower: bytes, upper: bytes | None, limit: int
    ) -> list[ListedObject]:
        usual = self._usual
        found = self._session.all(
            _LISTED + " WHERE bucket_id = ? AND key >= ? AND key < ? AND is_latest AND NOT is_delete_marker "
            "ORDER BY key LIMIT ?",
            (*usual, bucket_id, lower, _NO_UPPER if upper is None else upper, limit),
        )
        return self._listed(found, usual)

    def walk_objects(
        self,
        bucket_id: int,
        *,
        prefix: bytes,
        delimiter: bytes,
        lower: bytes,
        upper: bytes | None,
        limit: int,
    ) -> list[ListedObject | str]:
        usual = self._usual
        end = _NO_UPPER if upper is None else upper
        behind = delimiter[:-1] + bytes([delimiter[-1] + 1])  # UTF-8 has no byte FF
        found = self._session.all(
            _WALK,
            (
                *(len(prefix) + 1, delimiter, behind, b"\0"),
                *(bucket_id, lower, end),
                *(bucket_id, end, limit),
                *(*usual, bucket_id),
            ),
        )
        found.sort(key=itemgetter(0))  # as SQLite hands them out anyway
        entries = iter(self._listed([(key, *rest) for key, cut, *rest in found if not cut], usual))
        skip = len(prefix) + len(delimiter) - 1
        return [str(key[: cut + skip], "utf-8") if cut else next(entries) for key, cut, *_ in found]

    def _listed(self, found: list[Row], usual: ListedKind) -> list[ListedObject]:
        listed = rows.listed_objects(found, usual)
        if listed:
            self._usual = listed[-1].kind  # a guess at what most rows of the next page are
        return listed

    def list_versions(
        self,
        bucket_id: int,
        *,
        lower: bytes,
        upper: bytes | None,
        after_row: int | None = None,
        limit: int,
    ) -> list[ListedVersion]:
        end = _NO_UPPER if upper is None else upper
        if lower >= end:
            return []
        below = _NO_LIMIT if after_row is None else after_row
        found = self._session.all(
            _LIST_VERSIONS, (bucket_id, lower, below, limit, bucket_id, lower, end, limit, limit)
        )
        return [rows.listed_version(row) for row in found]

    # -- multipart

    def upload(self, bucket_id: int, key: str, upload_id: str) -> Upload | None:
        row = self._session.one(
            _UPLOADS + " WHERE upload_id = ? AND bucket_id = ? AND key = ?",
            (upload_id, bucket_id, key.encode()),
        )
        return rows.upload(row) if row else None

    def list_uploads(
        self,
        bucket_id: int,
        *,
        lower: bytes,
        upper: bytes | None,
        after_row: int | None = None,
        limit: int,
    ) -> list[Upload]:
        found = self._session.all(
            _UPLOADS + " WHERE bucket_id = ? AND (key, row) > (?, ?) AND key < ? ORDER BY key, row LIMIT ?",
            (bucket_id, lower, after_row or 0, _NO_UPPER if upper is None else upper, limit),
        )
        return [rows.upload(row) for row in found]

    def count_uploads(self, bucket_id: int, *, most: int) -> int:
        found = self._session.one(
            "SELECT count(*) FROM (SELECT 1 FROM uploads WHERE bucket_id = ? LIMIT ?) AS open_ones",
            (bucket_id, most),
        )
        return int(found[0]) if found else 0

    def expired_uploads(self, *, before_ms: int, limit: int) -> list[Upload]:
        """Neither begun nor given a part since then; oldest first."""
        found = self._session.all(
            _UPLOADS + " WHERE initiated_ms < ? AND NOT EXISTS "
            "(SELECT 1 FROM parts WHERE upload_row = uploads.row AND modified_ms >= ?) "
            "ORDER BY initiated_ms LIMIT ?",
            (before_ms, before_ms, limit),
        )
        return [rows.upload(row) for row in found]

    def part(self, upload_row: int, part_number: int) -> Part | None:
        row = self._session.one(_PARTS + " AND part_number = ?", (upload_row, part_number))
        return rows.part(row) if row else None

    def parts(self, upload_row: int, *, after: int = 0, limit: int | None = None) -> list[Part]:
        found = self._session.all(
            _PARTS + " AND part_number > ? ORDER BY part_number LIMIT ?",
            (upload_row, after, _NO_LIMIT if limit is None else limit),
        )
        return [rows.part(row) for row in found]

    def completion(self, bucket_id: int, key: str, upload_id: str) -> Completion | None:
        row = self._session.one(
            f"SELECT {rows.COMPLETION_COLUMNS} FROM completions "
            "WHERE upload_id = ? AND bucket_id = ? AND key = ?",
            (upload_id, bucket_id, key.encode()),
        )
        return rows.completion(row) if row else None

    # -- upkeep

    def due_garbage(self, *, before_ms: int, limit: int) -> list[Garbage]:
        """Oldest first."""
        found = self._session.all(
            "SELECT blob, size, inline_row IS NOT NULL FROM garbage JOIN blobs ON blobs.id = blob "
            "WHERE since_ms < ? ORDER BY since_ms LIMIT ?",
            (before_ms, limit),
        )
        return [Garbage(blob, size, bool(is_inline)) for blob, size, is_inline in found]

    def is_referenced(self, blob: BlobId) -> bool:
        return self._session.one("SELECT 1 FROM blobs WHERE id = ? AND refs > 0", (blob,)) is not None

    def known_blobs(self, blobs: Sequence[BlobId]) -> set[BlobId]:
        found = self._session.all(
            "SELECT id FROM blobs WHERE id IN (SELECT value FROM json_each(?))",
            (rows.encode_list(list(blobs)),),
        )
        return {row[0] for row in found}

    def stored_blobs(self, *, after: str = "", limit: int) -> list[tuple[BlobId, int, int, bool]]:
        found = self._session.all(
            "SELECT id, size, refs, inline_row IS NOT NULL FROM blobs WHERE id > ? ORDER BY id LIMIT ?",
            (after, limit),
        )
        return [(BlobId(blob), size, refs, bool(inline)) for blob, size, refs, inline in found]

    def reference_faults(self, *, limit: int) -> list[str]:
        """One statement per kind of fault, each true by itself beside running writes."""
        faults: list[str] = []
        for statement in _FAULTS:
            faults += (row[0] for row in self._session.all(statement, (limit - len(faults),)))
        return faults

    def counts(self) -> dict[str, int]:
        """``bytes`` are those of blobs: shared ones once, parts and garbage included."""
        return dict(zip(_COUNTED, self._session.all(_COUNTS)[0], strict=True))

    def setting(self, name: str) -> bytes | None:
        """Sealed at rest, as access keys are."""
        row = self._session.one("SELECT value FROM settings WHERE name = ?", (name,))
        return self._secrets.open(row[0], context=f"setting {name}") if row else None
