"""Accounts, keys, buckets, configurations and settings as SQL: the part of `sql_write` that is theirs."""
# ruff: noqa: S608  # only the constants of this package are put together; values are always bound

from __future__ import annotations

from s3lite.catalog import rows
from s3lite.catalog.secrets import SecretBox
from s3lite.catalog.sql_quota import QuotaChanges
from s3lite.model import AccessKey, Account, Acl, Bucket


class AccountChanges(QuotaChanges):
    """Changes of them, inside a transaction. What buckets have is counted for quotas."""

    _secrets: SecretBox

    # -- accounts and keys

    def put_account(self, account: Account) -> None:
        self._session.run(
            "INSERT INTO accounts (id, display_name, email, is_root, created_ms) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET display_name = excluded.display_name, email = excluded.email, "
            "is_root = excluded.is_root, created_ms = excluded.created_ms",
            (account.id, account.display_name, account.email, account.is_root, account.created_ms),
        )

    def remove_account(self, account_id: str) -> bool:
        self.put_account_quota(account_id, max_bytes=None, max_objects=None)
        return self._session.run("DELETE FROM accounts WHERE id = ?", (account_id,)) > 0

    def put_access_key(self, key: AccessKey) -> None:
        """Its account must be there (ValueError)."""
        name = key.access_key
        self._session.run(
            "INSERT INTO access_keys (access_key, account_id, secret_key, webhook_secret, enabled, callback, "
            "created_ms, policy, rate) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (access_key) DO UPDATE SET "
            "account_id = excluded.account_id, secret_key = excluded.secret_key, "
            "webhook_secret = excluded.webhook_secret, enabled = excluded.enabled, "
            "callback = excluded.callback, created_ms = excluded.created_ms, policy = excluded.policy, "
            "rate = excluded.rate",
            (
                name,
                key.account.id,
                self._secrets.seal(key.secret_key.encode(), context=f"secret_key {name}"),
                self._secrets.seal(key.webhook_secret.encode(), context=f"webhook_secret {name}"),
                key.enabled,
                key.callback,
                key.created_ms,
                key.policy,
                rows.encode_rate(key.rate),
            ),
        )

    def remove_access_key(self, access_key: str) -> bool:
        return self._session.run("DELETE FROM access_keys WHERE access_key = ?", (access_key,)) > 0

    # -- buckets

    def create_bucket(
        self, *, name: str, owner_id: str, region: str, acl: Acl, created_ms: int, object_lock: bool = False
    ) -> Bucket | None:
        row = self._session.one(
            "INSERT INTO buckets (name, owner_id, created_ms, region, acl, versioning, object_lock) "
            "VALUES (?, ?, ?, ?, ?, '', ?) ON CONFLICT (name) DO NOTHING "
            f"RETURNING {rows.BUCKET_COLUMNS}",
            (name, owner_id, created_ms, region, rows.encode_acl(acl), object_lock),
        )
        if row is None:
            return None
        made = rows.bucket(row)
        if self._has_account_quota(owner_id):
            self._note_configs(made.id)
        return made

    def set_versioning(self, bucket_id: int, status: str) -> None:
        self._session.run("UPDATE buckets SET versioning = ? WHERE id = ?", (status, bucket_id))

    def enable_object_lock(self, bucket_id: int) -> None:
        self._session.run("UPDATE buckets SET object_lock = TRUE WHERE id = ?", (bucket_id,))

    def set_bucket_acl(self, bucket_id: int, acl: Acl) -> None:
        self._session.run("UPDATE buckets SET acl = ? WHERE id = ?", (rows.encode_acl(acl), bucket_id))

    def put_bucket_config(self, bucket_id: int, name: str, document: bytes) -> None:
        self._session.run(
            "INSERT INTO bucket_configs (bucket_id, name, document) VALUES (?, ?, ?) "
            "ON CONFLICT (bucket_id, name) DO UPDATE SET document = excluded.document",
            (bucket_id, name, document),
        )
        self._note_configs(bucket_id)

    def delete_bucket_config(self, bucket_id: int, name: str) -> bool:
        changed = self._session.run(
            "DELETE FROM bucket_configs WHERE bucket_id = ? AND name = ?", (bucket_id, name)
        )
        self._note_configs(bucket_id)
        return changed > 0

    # -- the installation itself

    def put_setting(self, name: str, value: bytes) -> None:
        self._session.run(
            "INSERT INTO settings (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, self._secrets.seal(value, context=f"setting {name}")),
        )
