"""Pieces that answers share: escaped or url-encoded text, dates, ETags, accounts, checksums.

Each is text of XML. `listings` and `results` make documents of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from s3lite.model import Account, Checksum
from s3lite.times import iso8601
from s3lite.wire.checksums import element_name
from s3lite.wire.xml import element, escape

_URL_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/"
# Bytes of UTF-8 that `escape` never changes. U+D800-DFFF and U+FFFE begin with ED and EF.
_PLAIN = bytes(byte for byte in range(32, 256) if byte not in b'&<>"\xed\xef')

Encoder = Callable[[str], str]


def url_encode(value: str) -> str:
    """``encoding-type=url``: percent-encoded UTF-8; ``/`` stays and a space is %20, which every SDK decodes."""
    return quote(value, safe="/-_.~", errors="replace")


def encoder(encoding_type: str) -> Encoder:
    return url_encode if encoding_type == "url" else escape


def encode_keys(encoding_type: str, keys: list[str]) -> list[str]:
    """The keys of a page as they are written: unchanged when no key needs more, which is tried at once."""
    joined = "".join(keys).encode("utf-8", "surrogatepass")
    if not joined.translate(None, _URL_SAFE if encoding_type == "url" else _PLAIN):
        return keys
    encode = encoder(encoding_type)
    return [encode(key) for key in keys]


def optional(name: str, value: str, encode: Encoder = escape) -> str:
    return f"<{name}>{encode(value)}</{name}>" if value else ""


def flag(name: str, value: bool) -> str:
    return f"<{name}>{'true' if value else 'false'}</{name}>"


def etag_element(etag: str) -> str:
    return f"<ETag>&quot;{escape(etag)}&quot;</ETag>"


def account(name: str, account: Account) -> str:
    return f"<{name}>{element('ID', account.id)}{element('DisplayName', account.display_name)}</{name}>"


def account_of(name: str, account_id: str, accounts: Mapping[str, Account]) -> str:
    return account(name, accounts.get(account_id) or Account(account_id, ""))


def checksum_values(checksum: Checksum | None) -> str:
    if checksum is None:
        return ""
    return element(element_name(checksum.algorithm), checksum.value) + element("ChecksumType", checksum.type)


def part_checksum(algorithm: str, value: str) -> str:
    return element(element_name(algorithm), value) if algorithm and value else ""


def common_prefixes(prefixes: Sequence[str], encoding_type: str) -> str:
    encoded = encode_keys(encoding_type, list(prefixes))
    return "".join([f"<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>" for prefix in encoded])


class _Days(dict[int, str]):
    """``2026-01-31T`` by days since the epoch, each made when it is first asked for."""

    def __missing__(self, day: int) -> str:
        text = self[day] = iso8601(day * 86_400_000)[:11]
        return text


class Minutes(dict[int, str]):
    """``2026-01-31T12:34:`` by minutes since the epoch, for one page, whose rows often share them."""

    def __missing__(self, minute: int) -> str:
        text = self[minute] = _DAYS[minute // 1440] + _MINUTES_OF_DAY[minute % 1440]
        return text


# `times.iso8601` out of tables, at a fifth of its price: listings have a date in every row.
_DAYS = _Days()
_MINUTES_OF_DAY = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(1440)]
SECONDS = [f"{second:02}.000Z" for second in range(60)]


def date(epoch_ms: int) -> str:
    second = epoch_ms // 1000
    return _DAYS[second // 86_400] + _MINUTES_OF_DAY[second // 60 % 1440] + SECONDS[second % 60]


def row_checksum(algorithm: str, checksum_type: str) -> str:
    """What rows of listings say of a checksum: its kind, never its value."""
    if not algorithm:
        return ""
    return element("ChecksumAlgorithm", algorithm) + optional("ChecksumType", checksum_type)
