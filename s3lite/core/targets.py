"""Notification targets: what operators define, and how bucket configurations name it.

A target has a name, and a URL that says what it is: ``http`` and ``https`` are webhooks; every other scheme
is a message broker's, with the queue (or ``exchange/routing key``) behind ``#``. A bucket's configuration
names it by an ARN that ends in ``:NAME``, whatever comes before: ``arn:s3lite:webhook:::NAME`` says it
plainly, and tools that accept AWS's ARNs only may write ``arn:aws:sqs:us-east-1:000000000000:NAME``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from s3lite.callback import broker
from s3lite.callback.egress import CallbackUrl, parse_url
from s3lite.callback.signing import secret_bytes
from s3lite.errors import S3Error
from s3lite.settings import NotificationSettings, SettingsError

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ARN_PARTS = 6


@dataclass(frozen=True, slots=True)
class Target:
    """Where notifications go: a webhook, or a queue of a broker."""

    name: str
    webhook: CallbackUrl | None = None
    broker: str = field(default="", repr=False)  # kombu's URL, which may hold a password
    route: str = ""  # queue, or exchange/routing key
    secret: str = field(default="", repr=False)  # whsec_… for webhooks


class Targets:
    """All targets of an installation. Raises SettingsError with every fault."""

    def __init__(self, settings: NotificationSettings) -> None:
        faults: list[str] = []
        secrets = dict(settings.secrets)
        self._targets: dict[str, Target] = {}
        for name, url in settings.targets:
            try:
                self._targets[name] = _target(name, url, secrets.pop(name, ""))
            except ValueError as error:
                faults.append(f"notifications.targets: {name}: {error}")
        faults += [f"notifications.secrets: there is no target {name}" for name in secrets]
        if settings.eventbridge and settings.eventbridge not in self._targets:
            faults.append(f"notifications.eventbridge: there is no target {settings.eventbridge}")
        if any(target.broker for target in self._targets.values()) and not broker.is_installed():
            faults.append(f"notifications.targets: {broker.INSTALL}")
        if faults:
            raise SettingsError("s3lite cannot start with these settings:\n  " + "\n  ".join(faults))

    def named(self, name: str) -> Target | None:
        """The target of this name."""
        return self._targets.get(name)

    def meant(self, arn: str) -> Target | None:
        """The target that an ARN of a configuration means."""
        parts = arn.split(":")
        return self.named(parts[-1]) if len(parts) >= _ARN_PARTS and parts[0] == "arn" else None


def _target(name: str, url: str, secret: str) -> Target:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, - _ and .")
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ValueError("is no URL")
    if scheme[1].lower() not in ("http", "https"):
        address, _, route = url.partition("#")
        if not route or secret:
            raise ValueError("a broker's URL ends in #QUEUE or #EXCHANGE/ROUTING.KEY, and has no secret")
        return Target(name, broker=address, route=route)
    if secret:
        secret_bytes(secret)
    try:
        return Target(name, webhook=parse_url(url), secret=secret)
    except S3Error:
        raise ValueError("is no URL that callbacks may have") from None
