"""Website configuration of a bucket: the document, its stored form, and where it sends a request.

Sources: API Reference, PutBucketWebsite; User Guide, "Configuring a webpage redirect".
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from urllib.parse import quote

from s3lite.errors import Code, S3Error, invalid_argument
from s3lite.wire import xml

_MAX_BYTES = 128 << 10  # API Reference: the maximum request length
_MAX_RULES = 50
_CODES = (301, 302, 303, 307, 308)

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(?::[0-9]{1,5})?", re.ASCII)

# A key's characters are its own; what an owner has configured may be a whole reference (``#!/``, ``?page=``).
_KEY_SAFE = "/-_.~"
_REFERENCE_SAFE = "%/:?#[]@!$&'()*+,;=-_.~"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where to. "" and None keep what the request has; ``code`` is the answer's status."""

    host: str = ""
    protocol: str = ""  # http or https
    key: str | None = None  # in place of the whole key
    prefix: str | None = None  # in place of the prefix that the rule matched
    code: int = 301


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """``error`` 0: decides before the object is looked for; else only where that ends with this status."""

    redirect: Redirect
    prefix: str = ""
    error: int = 0


@dataclass(frozen=True, slots=True)
class Website:
    """Either ``redirect_all``, or an index document and what goes with it."""

    index: str = ""
    error_key: str = ""
    redirect_all: Redirect | None = None
    rules: tuple[RoutingRule, ...] = ()


# ---------------------------------------------------------------- the document


def parse(data: bytes) -> Website:
    """A WebsiteConfiguration.

    Raises MalformedXML, InvalidArgument (documents), InvalidRequest (redirects) and
    MaxMessageLengthExceeded.
    """
    if len(data) > _MAX_BYTES:
        raise S3Error(
            Code.MaxMessageLengthExceeded,
            f"Your request was too large: a website configuration may have {_MAX_BYTES} bytes.",
            MaxMessageLengthBytes=str(_MAX_BYTES),
        )
    root = xml.parse(data, "WebsiteConfiguration")
    everything = xml.child(root, "RedirectAllRequestsTo")
    if everything is not None:
        if len(root) > 1:
            raise _invalid("RedirectAllRequestsTo cannot be provided in conjunction with other elements.")
        redirect = Redirect(_host(everything), _protocol(everything))
        if not redirect.host:
            raise xml.malformed("RedirectAllRequestsTo needs a HostName")
        return Website(redirect_all=redirect)
    error = xml.child(root, "ErrorDocument")
    rules = xml.child(root, "RoutingRules")
    return Website(
        index=_index(root),
        error_key=_error_key(error) if error is not None else "",
        rules=_rules(rules) if rules is not None else (),
    )


def _index(root: xml.Element) -> str:
    index = xml.child(root, "IndexDocument")
    suffix = xml.text(index, "Suffix").strip() if index is not None else ""
    if index is None:
        raise invalid_argument(
            "IndexDocument",
            "",
            "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
        )
    if not suffix or "/" in suffix:
        raise invalid_argument("IndexDocument", suffix, "The IndexDocument Suffix is not well formed")
    return suffix


def _error_key(error: xml.Element) -> str:
    key = xml.text(error, "Key").strip()
    if not key:
        raise invalid_argument("ErrorDocument", "", "The ErrorDocument Key is not well formed")
    return key


def _rules(parent: xml.Element) -> tuple[RoutingRule, ...]:
    rows = xml.children(parent, "RoutingRule")
    if len(rows) > _MAX_RULES:
        raise _invalid(
            f"{len(rows)} routing rules provided, the number of routing rules in a website configuration is "
            f"limited to {_MAX_RULES}."
        )
    return tuple(map(_rule, rows))


def _rule(row: xml.Element) -> RoutingRule:
    redirect = xml.child(row, "Redirect")
    if redirect is None or not len(redirect):
        raise xml.malformed("each RoutingRule needs a Redirect that says where to")
    condition = xml.child(row, "Condition")
    if condition is None:
        return RoutingRule(_redirect(redirect))
    prefix = xml.text(condition, "KeyPrefixEquals")
    error = xml.text(condition, "HttpErrorCodeReturnedEquals").strip()
    if not prefix and not error:
        raise _invalid(
            "Condition cannot be empty. To redirect all requests without a condition, the condition element "
            "shouldn't be present."
        )
    if error and not re.fullmatch("[45][0-9]{2}", error, re.ASCII):
        raise _invalid(
            f"The provided HTTP error code ({error[:16]}) is not valid. Valid codes are 4XX or 5XX."
        )
    return RoutingRule(_redirect(redirect), prefix, int(error or 0))


def _redirect(element: xml.Element) -> Redirect:
    fields = xml.fields(element)
    code = fields.get("HttpRedirectCode", "").strip() or "301"
    if code not in map(str, _CODES):
        raise _invalid(
            f"The provided HTTP redirect code ({code[:16]}) is not valid. "
            f"Valid codes are {', '.join(map(str, _CODES))}."
        )
    key, prefix = fields.get("ReplaceKeyWith"), fields.get("ReplaceKeyPrefixWith")
    if key is not None and prefix is not None:
        raise _invalid("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
    return Redirect(_host(element), _protocol(element), key, prefix, int(code))


def _host(element: xml.Element) -> str:
    host = xml.text(element, "HostName").strip()
    if host and not _HOST.fullmatch(host):
        raise _invalid(f'The HostName "{host[:256]}" is not a host name, with or without a port.')
    return host


def _protocol(element: xml.Element) -> str:
    protocol = xml.text(element, "Protocol").strip()
    if protocol not in ("", "http", "https"):
        raise _invalid(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be selected "
            "automatically."
        )
    return protocol


def _invalid(message: str) -> S3Error:
    return S3Error(Code.InvalidRequest, message)


def document(site: Website) -> bytes:
    """The WebsiteConfiguration that GetBucketWebsite answers."""
    if site.redirect_all is not None:
        inner = _optional("HostName", site.redirect_all.host) + _optional(
            "Protocol", site.redirect_all.protocol
        )
        return xml.document("WebsiteConfiguration", f"<RedirectAllRequestsTo>{inner}</RedirectAllRequestsTo>")
    body = f"<IndexDocument>{xml.element('Suffix', site.index)}</IndexDocument>"
    if site.error_key:
        body += f"<ErrorDocument>{xml.element('Key', site.error_key)}</ErrorDocument>"
    if site.rules:
        body += f"<RoutingRules>{''.join(map(_rule_element, site.rules))}</RoutingRules>"
    return xml.document("WebsiteConfiguration", body)


def _rule_element(rule: RoutingRule) -> str:
    condition = _optional("KeyPrefixEquals", rule.prefix)
    condition += _optional("HttpErrorCodeReturnedEquals", str(rule.error or ""))
    redirect = rule.redirect
    inner = _optional("Protocol", redirect.protocol) + _optional("HostName", redirect.host)
    if redirect.prefix is not None:
        inner += xml.element("ReplaceKeyPrefixWith", redirect.prefix)
    if redirect.key is not None:
        inner += xml.element("ReplaceKeyWith", redirect.key)
    inner += xml.element("HttpRedirectCode", str(redirect.code))
    when = f"<Condition>{condition}</Condition>" if condition else ""
    return f"<RoutingRule>{when}<Redirect>{inner}</Redirect></RoutingRule>"


def _optional(name: str, value: str) -> str:
    return xml.element(name, value) if value else ""


# ---------------------------------------------------------------- the stored form


def dumps(site: Website) -> bytes:
    """A configuration as the catalog keeps it."""
    return json.dumps(asdict(site)).encode()


@lru_cache(maxsize=256)
def loads(data: bytes) -> Website:
    """A configuration as `dumps` wrote it; the most recent documents are kept parsed."""
    stored = json.loads(data)
    everything = stored["redirect_all"]
    return Website(
        index=stored["index"],
        error_key=stored["error_key"],
        redirect_all=Redirect(**everything) if everything else None,
        rules=tuple(
            RoutingRule(Redirect(**rule["redirect"]), rule["prefix"], rule["error"])
            for rule in stored["rules"]
        ),
    )


# ---------------------------------------------------------------- where to


def rule_for(site: Website, key: str, *, error: int = 0) -> RoutingRule | None:
    """The rule that redirects ``key``: before it is looked for, or once that has ended with ``error``."""
    if site.redirect_all is not None:
        return RoutingRule(site.redirect_all)
    return next((rule for rule in site.rules if rule.error == error and key.startswith(rule.prefix)), None)


def location(rule: RoutingRule, key: str, *, origin: str, mount_prefix: str) -> str:
    """The URL that ``rule`` sends ``key`` to: on another host, or a path of this one.

    ``origin`` is scheme://host of the request. All but what the owner has configured is percent-encoded.
    """
    redirect = rule.redirect
    if redirect.key is not None:
        path = quote(redirect.key, safe=_REFERENCE_SAFE)
    elif redirect.prefix is not None:
        path = quote(redirect.prefix, safe=_REFERENCE_SAFE)
        path += quote(key[len(rule.prefix) :], safe=_KEY_SAFE)
    else:
        path = quote(key, safe=_KEY_SAFE)
    if not redirect.host and not redirect.protocol:
        return local(path, mount_prefix)
    scheme, _, host = origin.partition("://")
    if redirect.host:
        return f"{redirect.protocol or scheme}://{redirect.host}/{path}"
    return f"{redirect.protocol}://{host}{mount_prefix}/{path}"


def folder(key: str, mount_prefix: str) -> str:
    """The path of the folder that ``key`` names without its slash."""
    return local(quote(key, safe=_KEY_SAFE) + "/", mount_prefix)


def object_location(value: str, mount_prefix: str) -> str | None:
    """The URL that an object's own x-amz-website-redirect-location names; None when it is none."""
    encoded = quote(value.encode("latin-1", "replace"), safe=_REFERENCE_SAFE)
    if encoded.startswith("/"):
        return local(encoded[1:], mount_prefix)
    return encoded if encoded.startswith(("http://", "https://")) else None


def local(path: str, mount_prefix: str) -> str:
    """A path of this host. ``//`` at its beginning would name another one (RFC 3986, 4.2)."""
    if not mount_prefix and path.startswith("/"):
        path = "%2F" + path[1:]
    return f"{mount_prefix}/{path}"
