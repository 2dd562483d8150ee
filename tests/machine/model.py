"""What a bucket should hold: versions in lists, and the rules of S3 in a few lines each, told by its documents."""

from __future__ import annotations

from dataclasses import dataclass, field

DAY_MS = 86_400_000


@dataclass
class Version:
    """``body`` None is a delete marker."""

    version_id: str
    body: bytes | None
    modified_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    mode: str = ""
    until_ms: int = 0
    hold: bool = False

    def is_locked(self, now_ms: int, *, bypass: bool = False) -> bool:
        """Whether it may not be removed."""
        return self.hold or (self.is_retained(now_ms) and not (bypass and self.mode == "GOVERNANCE"))

    def is_retained(self, now_ms: int) -> bool:
        """Whether a retention runs."""
        return bool(self.mode) and self.until_ms > now_ms


@dataclass(frozen=True)
class Rule:
    """A lifecycle rule; None and False: it says nothing of that."""

    prefix: str = ""
    tag: tuple[str, str] | None = None
    days: int | None = None
    noncurrent_days: int | None = None
    kept: int = 0
    markers: bool = False
    abort_days: int | None = None

    def xml(self) -> str:
        """As a client sends it."""
        prefix = f"<Prefix>{self.prefix}</Prefix>"
        tag = f"<Tag><Key>{self.tag[0]}</Key><Value>{self.tag[1]}</Value></Tag>" if self.tag else ""
        body = f"<Filter><And>{prefix}{tag}</And></Filter>" if tag else f"<Filter>{prefix}</Filter>"
        if self.days is not None:
            body += f"<Expiration><Days>{self.days}</Days></Expiration>"
        if self.markers:
            body += "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        if self.noncurrent_days is not None:
            kept = f"<NewerNoncurrentVersions>{self.kept}</NewerNoncurrentVersions>" if self.kept else ""
            days = f"<NoncurrentDays>{self.noncurrent_days}</NoncurrentDays>"
            body += f"<NoncurrentVersionExpiration>{days}{kept}</NoncurrentVersionExpiration>"
        if self.abort_days is not None:
            days = f"<DaysAfterInitiation>{self.abort_days}</DaysAfterInitiation>"
            body += f"<AbortIncompleteMultipartUpload>{days}</AbortIncompleteMultipartUpload>"
        return f"<Rule><Status>Enabled</Status>{body}</Rule>"

    def matches(self, key: str, version: Version) -> bool:
        """Whether it is about a version: tags are those of objects."""
        if not key.startswith(self.prefix):
            return False
        if self.tag is None:
            return True
        return version.body is not None and version.tags.get(self.tag[0]) == self.tag[1]


def due(since_ms: int, days: int, now_ms: int) -> bool:
    """Whether so many days are over, rounded up to the next midnight UTC."""
    over_ms = since_ms + days * DAY_MS
    return (over_ms + DAY_MS - 1) // DAY_MS * DAY_MS <= now_ms


@dataclass
class Bucket:
    """The newest version of a key is the first of its list; keys without versions are left out."""

    name: str
    has_lock: bool = False
    versioning: str = ""
    keys: dict[str, list[Version]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, int]] = field(default_factory=dict)  # key and beginning, by upload id
    rules: tuple[Rule, ...] = ()

    def current(self, key: str) -> Version | None:
        """The object that a read without version gets."""
        versions = self.keys.get(key)
        return versions[0] if versions and versions[0].body is not None else None

    def find(self, key: str, version_id: str) -> Version | None:
        """A version by its id."""
        return next((each for each in self.keys.get(key, ()) if each.version_id == version_id), None)

    def add(self, key: str, version: Version) -> None:
        """Publish an object or a marker."""
        if self.versioning != "Enabled":
            version.version_id = "null"
            self.drop(key, self.find(key, "null"))
        self.keys.setdefault(key, []).insert(0, version)

    def drop(self, key: str, version: Version | None) -> None:
        """Remove a version for good."""
        if version is not None:
            self.keys[key].remove(version)
            if not self.keys[key]:
                del self.keys[key]

    def delete(self, key: str, marker_id: str, now_ms: int) -> None:
        """Delete a key without naming a version."""
        if self.versioning:
            self.add(key, Version(marker_id, None, now_ms))
        else:
            self.drop(key, self.find(key, "null"))

    def listed(self) -> list[tuple[str, str, bool, bool, int]]:
        """Key, version, whether a marker, whether the latest, size: as ListObjectVersions has them."""
        return [
            (key, each.version_id, each.body is None, number == 0, len(each.body or b""))
            for key in sorted(self.keys, key=str.encode)
            for number, each in enumerate(self.keys[key])
        ]

    # ------------------------------------------------------------ lifecycle

    def expire(self, now_ms: int) -> list[str]:
        """Apply the rules once; the keys of which current objects got a marker, whose id only the server knows."""
        marked = []
        for upload_id, (key, begun_ms) in list(self.uploads.items()):
            if any(
                rule.abort_days is not None
                and key.startswith(rule.prefix)
                and due(begun_ms, rule.abort_days, now_ms)
                for rule in self.rules
            ):
                del self.uploads[upload_id]
        for key, versions in list(self.keys.items()):
            gone = [each for number, each in enumerate(versions) if self._goes(key, versions, number, now_ms)]
            for each in gone:
                if each is versions[0] and each.body is not None:
                    marked.append(key)
                else:
                    self.drop(key, each)
        for key in marked:
            self.delete(key, "", now_ms)
        return marked

    def _goes(self, key: str, versions: list[Version], number: int, now_ms: int) -> bool:
        version = versions[number]
        rules = [rule for rule in self.rules if rule.matches(key, version)]
        if number:
            if version.is_locked(now_ms):
                return False
            since_ms = versions[number - 1].modified_ms
            return any(
                rule.noncurrent_days is not None
                and number > rule.kept
                and due(since_ms, rule.noncurrent_days, now_ms)
                for rule in rules
            )
        if version.body is None and len(versions) > 1:
            return False
        if version.body is None and any(rule.markers for rule in rules):
            return True
        return any(rule.days is not None and due(version.modified_ms, rule.days, now_ms) for rule in rules)
