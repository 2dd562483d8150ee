"""The index's tables, as numbered migrations that are never edited once released.

Written for SQLite in words that a PostgreSQL driver can translate one by one (``INTEGER PRIMARY KEY
AUTOINCREMENT`` → identity, ``INTEGER`` → ``bigint``, ``BLOB`` → ``bytea``, ``WITHOUT ROWID`` → nothing).

* Keys are UTF-8 bytes, so that NUL is allowed and index order is S3's listing order.
* ``versions.row`` rises with every commit; the highest row of a key is its latest version.
* Nothing has a foreign key to ``blobs``: each deleted blob would have to search every table that may
  name it. The counts in ``blobs.refs`` stand in its place and `ReadTx.reference_faults` proves them.
* ``versions_listed`` ends in the columns of its own condition: SQLite takes it as covering only then.
* ``inline`` is apart from ``blobs``, because a changed count would otherwise rewrite the bytes, too.
"""

from __future__ import annotations


class SchemaError(Exception):
    """The index cannot be used by this version of the program."""


_TABLES = """
CREATE TABLE accounts (
    id           TEXT PRIMARY KEY,
    display_name TEXT NOT NULL,
    email        TEXT NOT NULL,
    is_root      BOOLEAN NOT NULL,
    created_ms   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX accounts_by_email ON accounts (email, created_ms);

CREATE TABLE access_keys (
    access_key     TEXT PRIMARY KEY,
    account_id     TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    secret_key     BLOB NOT NULL,
    webhook_secret BLOB NOT NULL,
    enabled        BOOLEAN NOT NULL,
    callback       TEXT NOT NULL,
    created_ms     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX access_keys_by_account ON access_keys (account_id, access_key);

CREATE TABLE buckets (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    owner_id    TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    region      TEXT NOT NULL,
    acl         TEXT NOT NULL,
    versioning  TEXT NOT NULL,
    object_lock BOOLEAN NOT NULL
);
CREATE INDEX buckets_by_owner ON buckets (owner_id, name);

CREATE TABLE bucket_configs (
    bucket_id INTEGER NOT NULL REFERENCES buckets (id) ON DELETE CASCADE,
    name      TEXT NOT NULL,
    document  BLOB NOT NULL,
    PRIMARY KEY (bucket_id, name)
) WITHOUT ROWID;

CREATE TABLE blobs (
    id         TEXT PRIMARY KEY,
    size       INTEGER NOT NULL,
    refs       INTEGER NOT NULL,
    inline_row INTEGER
) WITHOUT ROWID;

CREATE TABLE inline (
    row  INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

CREATE TABLE garbage (
    blob     TEXT PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    since_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX garbage_by_age ON garbage (since_ms);

CREATE TABLE versions (
    row                INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket_id          INTEGER NOT NULL REFERENCES buckets (id),
    key                BLOB NOT NULL,
    version_id         TEXT NOT NULL,
    is_latest          BOOLEAN NOT NULL,
    is_delete_marker   BOOLEAN NOT NULL,
    size               INTEGER NOT NULL,
    etag               TEXT NOT NULL,
    modified_ms        INTEGER NOT NULL,
    owner_id           TEXT NOT NULL,
    blob               TEXT,
    part_count         INTEGER NOT NULL,
    checksum_algorithm TEXT NOT NULL,
    checksum_value     TEXT NOT NULL,
    checksum_type      TEXT NOT NULL,
    storage_class      TEXT NOT NULL,
    head               TEXT NOT NULL,
    tags               TEXT NOT NULL,
    acl                TEXT NOT NULL
);
CREATE UNIQUE INDEX versions_by_id ON versions (bucket_id, key, version_id);
CREATE INDEX versions_by_key ON versions (bucket_id, key, row DESC);
CREATE INDEX versions_listed ON versions (
    bucket_id, key, size, etag, modified_ms, owner_id, storage_class, checksum_algorithm, checksum_type,
    is_latest, is_delete_marker
) WHERE is_latest AND NOT is_delete_marker;

CREATE TABLE segments (
    row         INTEGER NOT NULL REFERENCES versions (row) DEFERRABLE INITIALLY DEFERRED,
    part_number INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    blob        TEXT,
    etag        TEXT NOT NULL,
    checksum    TEXT NOT NULL,
    PRIMARY KEY (row, part_number)
) WITHOUT ROWID;

CREATE TABLE uploads (
    row                 INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id           TEXT NOT NULL UNIQUE,
    bucket_id           INTEGER NOT NULL REFERENCES buckets (id),
    key                 BLOB NOT NULL,
    owner_id            TEXT NOT NULL,
    initiator_id        TEXT NOT NULL,
    initiated_ms        INTEGER NOT NULL,
    checksum_algorithm  TEXT NOT NULL,
    checksum_type       TEXT NOT NULL,
    callback            TEXT NOT NULL,
    callback_var        TEXT NOT NULL,
    callback_access_key TEXT NOT NULL,
    storage_class       TEXT NOT NULL,
    head                TEXT NOT NULL,
    tags                TEXT NOT NULL,
    acl                 TEXT NOT NULL
);
CREATE INDEX uploads_by_key ON uploads (bucket_id, key, row);
CREATE INDEX uploads_by_age ON uploads (initiated_ms);

CREATE TABLE parts (
    upload_row  INTEGER NOT NULL REFERENCES uploads (row) ON DELETE CASCADE,
    part_number INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    etag        TEXT NOT NULL,
    modified_ms INTEGER NOT NULL,
    blob        TEXT,
    checksum    TEXT NOT NULL,
    PRIMARY KEY (upload_row, part_number)
) WITHOUT ROWID;

CREATE TABLE completions (
    upload_id           TEXT PRIMARY KEY,
    bucket_id           INTEGER NOT NULL REFERENCES buckets (id) ON DELETE CASCADE,
    key                 BLOB NOT NULL,
    fingerprint         TEXT NOT NULL,
    etag                TEXT NOT NULL,
    version_id          TEXT NOT NULL,
    size                INTEGER NOT NULL,
    completed_ms        INTEGER NOT NULL,
    checksum_algorithm  TEXT NOT NULL,
    checksum_value      TEXT NOT NULL,
    checksum_type       TEXT NOT NULL,
    callback            TEXT NOT NULL,
    callback_var        TEXT NOT NULL,
    callback_access_key TEXT NOT NULL,
    callback_id         TEXT NOT NULL,
    callback_state      TEXT NOT NULL,
    callback_reply      BLOB NOT NULL,
    callback_reply_type TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX completions_by_bucket ON completions (bucket_id);
CREATE INDEX completions_by_age ON completions (completed_ms);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    holder     TEXT NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID;
"""

_OBJECT_LOCK = """
ALTER TABLE versions ADD COLUMN lock_mode TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN retain_until_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE versions ADD COLUMN legal_hold TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN lock_mode TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN retain_until_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE uploads ADD COLUMN legal_hold TEXT NOT NULL DEFAULT '';
"""

# The names of a bucket's documents beside its row: nearly every request asks whether there is one.
_CONFIGS = """
ALTER TABLE buckets ADD COLUMN configs TEXT NOT NULL DEFAULT '';
UPDATE buckets SET configs = coalesce(
    (SELECT group_concat(name, ' ') FROM bucket_configs WHERE bucket_id = buckets.id), '');
"""

# How objects are encrypted. ``master`` is apart from the rest of ``encryption``, because a rotation looks
# for the rows under one generation of a key.
_ENCRYPTION = """
ALTER TABLE versions ADD COLUMN master TEXT NOT NULL DEFAULT '';
ALTER TABLE versions ADD COLUMN encryption TEXT NOT NULL DEFAULT '';
CREATE INDEX versions_by_master ON versions (master, row) WHERE master <> '';
ALTER TABLE uploads ADD COLUMN master TEXT NOT NULL DEFAULT '';
ALTER TABLE uploads ADD COLUMN encryption TEXT NOT NULL DEFAULT '';
CREATE INDEX uploads_by_master ON uploads (master, row) WHERE master <> '';
ALTER TABLE segments ADD COLUMN sealed_key TEXT NOT NULL DEFAULT '';
ALTER TABLE parts ADD COLUMN sealed_key TEXT NOT NULL DEFAULT '';
ALTER TABLE blobs ADD COLUMN sealed_checksum TEXT NOT NULL DEFAULT '';
"""

# ``outbox_waiting`` answers per lane what is due, however many messages wait in others. What is long stands
# last, so that the rest of a row is read without it.
_OUTBOX = """
CREATE TABLE outbox (
    row         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    kind        TEXT NOT NULL,
    bucket      TEXT NOT NULL,
    key         BLOB NOT NULL,
    event       TEXT NOT NULL,
    destination TEXT NOT NULL,
    lane        TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    expires_ms  INTEGER NOT NULL,
    due_ms      INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    holder      TEXT NOT NULL,
    is_dead     BOOLEAN NOT NULL,
    status      INTEGER NOT NULL,
    message     TEXT NOT NULL,
    request     TEXT NOT NULL,
    body        BLOB NOT NULL
);
CREATE INDEX outbox_waiting ON outbox (lane, due_ms, is_dead) WHERE NOT is_dead;
CREATE INDEX outbox_by_age ON outbox (is_dead, created_ms, row);
CREATE INDEX outbox_by_due ON outbox (due_ms, lane, is_dead) WHERE NOT is_dead;

CREATE TABLE deliveries (
    row            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL,
    kind           TEXT NOT NULL,
    mode           TEXT NOT NULL,
    bucket         TEXT NOT NULL,
    key            BLOB NOT NULL,
    url            TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    at_ms          INTEGER NOT NULL,
    cost_ms        INTEGER NOT NULL,
    status         INTEGER NOT NULL,
    message        TEXT NOT NULL,
    cause          TEXT NOT NULL,
    sent_bytes     INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL,
    body           BLOB,
    answer         BLOB
);
CREATE INDEX deliveries_by_id ON deliveries (id, row);
CREATE INDEX deliveries_by_age ON deliveries (at_ms);

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
"""

# Uploads that a gate decides about. ``upload_id`` is unique, so that one Complete at a time is decided.
_PENDING = """
CREATE TABLE pending (
    row          INTEGER PRIMARY KEY AUTOINCREMENT,
    callback_id  TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    bucket_id    INTEGER NOT NULL REFERENCES buckets (id),
    key          BLOB NOT NULL,
    size         INTEGER NOT NULL,
    etag         TEXT NOT NULL,
    expires_ms   INTEGER NOT NULL,
    token_hash   TEXT NOT NULL,
    blob         TEXT,
    upload_id    TEXT UNIQUE,
    part_numbers TEXT NOT NULL,
    source_row   INTEGER NOT NULL,
    master       TEXT NOT NULL,
    encryption   TEXT NOT NULL
);
CREATE INDEX pending_by_fingerprint ON pending (fingerprint);
CREATE INDEX pending_by_bucket ON pending (bucket_id);
CREATE INDEX pending_by_age ON pending (expires_ms);
"""

_KEY_LIMITS = """
ALTER TABLE access_keys ADD COLUMN policy TEXT NOT NULL DEFAULT '';
ALTER TABLE access_keys ADD COLUMN rate TEXT NOT NULL DEFAULT '';
"""

# Lines of access logs on their way to their bucket. The index answers what is due without reading any.
_ACCESS_LOG = """
CREATE TABLE access_log (
    row         INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    lines       BLOB NOT NULL
);
CREATE INDEX access_log_by_destination ON access_log (destination, row, at_ms, size);
CREATE INDEX access_log_by_age ON access_log (at_ms);
"""

# ``subject`` is "bucket ID" or "account ID". Only what has a row is counted.
_QUOTAS = """
CREATE TABLE quotas (
    subject     TEXT PRIMARY KEY,
    max_bytes   INTEGER,
    max_objects INTEGER,
    bytes       INTEGER NOT NULL,
    objects     INTEGER NOT NULL
) WITHOUT ROWID;
"""

# Annotations of versions. Versions count theirs, so that nothing is looked for where there are none.
_ANNOTATIONS = """
ALTER TABLE versions ADD COLUMN annotations INTEGER NOT NULL DEFAULT 0;
CREATE TABLE annotations (
    row                INTEGER NOT NULL REFERENCES versions (row) DEFERRABLE INITIALLY DEFERRED,
    name               BLOB NOT NULL,
    size               INTEGER NOT NULL,
    etag               TEXT NOT NULL,
    modified_ms        INTEGER NOT NULL,
    blob               TEXT,
    checksum_algorithm TEXT NOT NULL,
    checksum_value     TEXT NOT NULL,
    sealed_key         TEXT NOT NULL,
    PRIMARY KEY (row, name)
) WITHOUT ROWID;
"""

# Quotas had not counted the bytes of annotations.
_ANNOTATIONS_IN_QUOTAS = """
UPDATE quotas SET bytes = bytes + (
    SELECT coalesce(sum(annotations.size), 0)
    FROM annotations
    JOIN versions ON versions.row = annotations.row
    JOIN buckets ON buckets.id = versions.bucket_id
    WHERE subject IN ('bucket ' || buckets.id, 'account ' || buckets.owner_id)
);
"""


def _statements(script: str) -> tuple[str, ...]:
    return tuple(statement for part in script.split(";") if (statement := part.strip()))


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _statements(_TABLES),
    _statements(_OBJECT_LOCK),
    _statements(_CONFIGS),
    _statements(_ENCRYPTION),
    _statements(_OUTBOX),
    _statements(_PENDING),
    _statements(_KEY_LIMITS),
    _statements(_ACCESS_LOG),
    _statements(_QUOTAS),
    _statements(_ANNOTATIONS),
    _statements(_ANNOTATIONS_IN_QUOTAS),
)
"""Migration n (from 1) is ``MIGRATIONS[n - 1]``: its statements run in one transaction."""
