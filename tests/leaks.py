"""A pytest plugin: whatever servers log and print while tests run is searched for every secret that was used.

Gathered are secret keys, webhook secrets and other values that are sealed, keys that encrypt (data keys, those of
the keyring, customers', the key file), session tokens, signatures and policy documents of requests, the tokens
and passwords of settings, and what servers of their own processes keep in their data directories. Searched is
what tests log and print in their own process, and the log of each server that they start. A finding fails the
run, however many tests passed.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

SHORTEST = 8  # what is shorter is a word like any other
_WORD = re.compile(r"[A-Za-z0-9+/=_~.:%-]{8,}")
_CUT = re.compile(r"[=.:%,]+")
_HEADERS = re.compile(r"(?i)(HTTP_)?x.amz.*(customer.key|security.token)$|(HTTP_)?cookie$")
_PARAMETERS = (
    "signature",
    "x-amz-signature",
    "x-amz-security-token",
    "security-token",
    "policy",
    "x-oss-signature",
)
_NO_SECRETS = {"anonymous", "unsigned"}


class Leaks:
    """Secrets, and the texts in which none of them may be."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}  # and what each is
        self.anywhere: set[str] = set()  # those that are looked for within words, too: the few of settings
        self.words: dict[str, str] = {}  # of all texts, and where each was first seen
        self.texts: list[tuple[str, str]] = []
        self.logs: dict[Path, int] = {}  # files that servers write to, and how far they were read

    # -- secrets

    def note(self, value: str | bytes | None, kind: str) -> None:
        """A secret, in each form in which it may show."""
        if isinstance(value, bytes):
            self.note(base64.b64encode(value).decode(), kind)
            self.note(value.hex(), kind)
            self.secrets.setdefault(repr(value)[2:-1], kind)
            return
        for line in (value or "").splitlines():  # of PEM files: each
            line = line.strip()
            if len(line) >= SHORTEST and not line.startswith("-----") and line not in _NO_SECRETS:
                self.secrets.setdefault(line, kind)
                self.secrets.setdefault(line.rstrip("="), kind)

    def note_setting(self, value: str | None, kind: str) -> None:
        """A secret that somebody has chosen."""
        self.note(value, kind)
        self.anywhere |= {value} if value and len(value) >= SHORTEST else set()

    def note_query(self, query: str, kind: str = "of a query") -> None:
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            if unquote(name).lower() in _PARAMETERS:
                self.note(unquote(value), f"{unquote(name)} {kind}")
                self.note(value, f"{unquote(name)} {kind}")

    def note_headers(self, headers: Iterable[tuple[str, Any]]) -> None:
        for name, value in headers:
            if not isinstance(value, str):
                continue
            if _HEADERS.match(name):
                self.note(value.rpartition("=")[2] if "cookie" in name.lower() else value, name)
            elif name.lower() in ("authorization", "http_authorization"):
                self.note(
                    re.split(r"Signature=|:", value)[-1] if " " in value else value, "signature of a request"
                )

    def note_fields(self, fields: Mapping[str, str]) -> None:
        for name, value in fields.items():
            if name.lower() in _PARAMETERS:
                self.note(value, f"{name} of a form")

    def note_settings(self, settings: Any) -> None:
        self.note_setting(settings.secret_key, "secret_key of the settings")
        self.note_setting(settings.metrics.token, "metrics.token")
        self.note_setting(urlsplit(settings.database_url).password, "password of database_url")
        for _name, secret in settings.notifications.secrets:
            self.note_setting(secret, "notifications.secrets")

    def note_environment(self, environment: Mapping[str, str]) -> None:
        for name, value in environment.items():
            if name.startswith("S3LITE_") and re.search("SECRET|TOKEN", name):
                for secret in re.split(r"[,]|(?<=[a-z])=", value):
                    self.note_setting(secret, name)

    def note_data(self, directory: Path) -> None:
        """What a server has generated."""
        credentials, key, keyring = (
            directory / name for name in ("root-credentials.json", "secret.key", "keyring.json")
        )
        if credentials.exists():
            self.note_setting(json.loads(credentials.read_text())["secret_key"], "generated root secret")
        if key.exists():
            self.note(key.read_text(), "secret.key")
        if keyring.exists():
            for found in re.findall(r'"([A-Za-z0-9+/]{42,44}=*)"', keyring.read_text()):
                self.note(found, "key of the keyring")

    # -- texts

    def read(self, text: str, where: str) -> None:
        """A text in which no secret may be."""
        if not text:
            return
        self.texts.append((text, where))
        for form in {text, unquote(text)}:
            for word in _WORD.findall(form):
                self.words.setdefault(word, where)
                for piece in _CUT.split(word):
                    self.words.setdefault(piece, where)

    def watch(self, log: Path) -> None:
        """A file that a server writes to; it is read as it grows."""
        self.logs.setdefault(log, 0)

    def read_logs(self) -> None:
        for log, position in list(self.logs.items()):
            if not log.exists():
                del self.logs[log]
                continue
            with log.open("rb") as file:
                file.seek(position)
                self.read(file.read().decode("utf-8", "replace"), str(log.name))
                self.logs[log] = file.tell()

    def findings(self) -> list[str]:
        """What was found, none of it in full."""
        found = {secret: self.words[secret] for secret in self.secrets.keys() & self.words.keys()}
        escaped = {secret for secret in self.secrets if "\\x" in secret}  # keys as Python shows bytes
        for text, where in self.texts:
            wanted = self.anywhere | (escaped if "\\x" in text else set())
            found |= {secret: where for secret in wanted if secret not in found and secret in text}
        longest = {secret.rstrip("="): secret for secret in sorted(found, key=len)}
        return sorted(
            f"{self.secrets[secret]} ({secret[:4]}…, {len(secret)} characters) in {found[secret]}"
            for secret in longest.values()
        )


LEAKS = Leaks()


# ---------------------------------------------------------------- where secrets pass


def _hook(patch: pytest.MonkeyPatch, owner: Any, name: str, look: Any) -> None:
    """Have ``look(result, *arguments)`` called after each call of a function."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        look(result, *arguments, **named)
        return result

    patch.setattr(owner, name, wrapper)


@pytest.fixture(autouse=True, scope="session")
def secrets_are_noted() -> Any:
    """Look on where secrets are sealed, keys used, requests signed, sent and received."""
    import botocore.auth
    import botocore.credentials

    import s3lite.catalog.secrets
    import s3lite.crypto.aead
    from s3lite.app import Application
    from s3lite.wire.form import FormReader

    box = s3lite.catalog.secrets.SecretBox
    with pytest.MonkeyPatch.context() as patch:
        _hook(patch, box, "seal", lambda _, box, value, *, context: _note_sealed(value, context))
        _hook(patch, box, "open", lambda value, *_, context: _note_sealed(value, context))
        for module in (s3lite.catalog.secrets, s3lite.crypto.aead):
            _hook(patch, module, "AESGCM", lambda _, key: LEAKS.note(key, "key that encrypts"))
        _hook(patch, FormReader, "fields", lambda fields, *_: LEAKS.note_fields(fields))
        _hook(patch, Application, "__init__", lambda _, app, settings, **__: LEAKS.note_settings(settings))
        _hook(patch, Application, "__call__", lambda _, app, environ, __: _note_request(environ))
        for kind, name in ((botocore.auth.SigV4Auth, "signature"), (botocore.auth.HmacV1Auth, "sign_string")):
            _hook(patch, kind, name, lambda found, *_, **__: LEAKS.note(found, "signature"))
        _hook(patch, botocore.credentials.Credentials, "__init__", _note_credentials)
        yield


def _note_sealed(value: bytes, context: str) -> None:
    if context not in ("setting root-access-key", "setting keyring-id"):  # names, sealed like the rest
        LEAKS.note(value.decode("latin-1"), context)


def _note_request(environ: Mapping[str, Any]) -> None:
    LEAKS.note_headers(environ.items())
    LEAKS.note_query(environ.get("QUERY_STRING", ""))


def _note_credentials(_: None, made: Any, *__: Any, **___: Any) -> None:
    LEAKS.note(made.secret_key, "secret key of a client")
    LEAKS.note(made.token, "session token of a client")


# ---------------------------------------------------------------- what is searched, and the verdict


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    LEAKS.read(report.caplog + report.capstderr + report.capstdout, report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Any:
    LEAKS.read_logs()  # before a test's directory goes
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    LEAKS.read_logs()
    if LEAKS.findings():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = LEAKS.findings()
    if found:
        terminalreporter.section("secrets in logs", red=True)
        for finding in found:
            terminalreporter.line(finding)
