"""Lifecycle documents: what is taken, what is refused, and what is shown again."""

from __future__ import annotations

import pytest

from s3lite.errors import S3Error
from s3lite.wire.lifecycle import Filter, Rule, document, parse, stored_rules

EXPIRE = "<Expiration><Days>1</Days></Expiration>"


def rule(body: str, *, where: str = "<Prefix>a/</Prefix>", status: str = "Enabled") -> str:
    return f"<Rule><Status>{status}</Status>{where}{body}</Rule>"


def whole(*rules: str) -> bytes:
    return f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>".encode()


def one(body: str, **values: str) -> Rule:
    (found,) = parse(whole(rule(body, **values)))
    return found


def code_of(data: bytes) -> str:
    with pytest.raises(S3Error) as caught:
        parse(data)
    return caught.value.code.name


def test_both_forms_of_a_prefix() -> None:
    assert one(EXPIRE) == Rule("", True, Filter("a/"), expire_days=1)
    assert one(EXPIRE, where="<Filter><Prefix>a/</Prefix></Filter>").filter == Filter("a/")
    assert one(EXPIRE, where="<Filter/>").filter == Filter()
    assert one(EXPIRE, where="<Prefix/>", status="Disabled").is_enabled is False


def test_conditions_hold_together_with_and_without_and() -> None:
    tags = "<Tag><Key>k</Key><Value>v</Value></Tag>"
    sizes = "<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan>"
    expected = Filter("a/", (("k", "v"),), 5, 9)
    inside = f"<Filter><And><Prefix>a/</Prefix>{tags}{sizes}</And></Filter>"
    assert one(EXPIRE, where=inside).filter == expected
    mixed = f"<Filter><Prefix>a/</Prefix>{tags}<And><Prefix>a</Prefix>{sizes}</And></Filter>"
    assert one(EXPIRE, where=mixed).filter == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>", {"expire_at_ms": 1_893_456_000_000}),
        (
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            {"expires_markers": True},
        ),
        (
            "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>"
            "<NewerNoncurrentVersions>3</NewerNoncurrentVersions></NoncurrentVersionExpiration>",
            {"noncurrent_days": 2, "noncurrent_kept": 3},
        ),
        (
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>4</DaysAfterInitiation>"
            "</AbortIncompleteMultipartUpload>",
            {"abort_days": 4},
        ),
        ("<Transition><Days>0</Days><StorageClass>GLACIER</StorageClass></Transition>" * 2, {}),
        (
            "<NoncurrentVersionTransition><NoncurrentDays>1</NoncurrentDays>"
            "<StorageClass>DEEP_ARCHIVE</StorageClass></NoncurrentVersionTransition>",
            {},
        ),
    ],
)
def test_actions(body: str, expected: dict[str, object]) -> None:
    assert one(body) == Rule("", True, Filter("a/"), **expected)


def expiration(body: str) -> bytes:
    return whole(rule(f"<Expiration>{body}</Expiration>"))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (whole(), "MalformedXML"),
        (whole(*[rule(EXPIRE)] * 1001), "MalformedXML"),
        (whole(rule(EXPIRE, status="enabled")), "MalformedXML"),
        (whole(rule("")), "InvalidRequest"),
        (whole(rule(EXPIRE, where="")), "MalformedXML"),
        (whole(rule(EXPIRE, where="<Prefix/><Filter/>")), "MalformedXML"),
        (whole(rule(EXPIRE, where="<Filter><Prefx>a</Prefx></Filter>")), "MalformedXML"),
        (
            whole(rule(EXPIRE, where="<Filter><Prefix>a</Prefix><And><Prefix>b</Prefix></And></Filter>")),
            "MalformedXML",
        ),
        (whole(rule(EXPIRE, where=f"<Prefix>{'a' * 1025}</Prefix>")), "InvalidArgument"),
        (whole(rule(EXPIRE, where="<Filter><Tag><Key/><Value/></Tag></Filter>")), "InvalidTag"),
        (
            whole(
                rule(
                    EXPIRE, where="<Filter><And>" + "<Tag><Key>k</Key><Value/></Tag>" * 2 + "</And></Filter>"
                )
            ),
            "InvalidRequest",
        ),
        (
            whole(
                rule(
                    EXPIRE,
                    where="<Filter><And><ObjectSizeGreaterThan>9</ObjectSizeGreaterThan>"
                    "<ObjectSizeLessThan>9</ObjectSizeLessThan></And></Filter>",
                )
            ),
            "InvalidRequest",
        ),
        (whole(rule(EXPIRE + EXPIRE)), "MalformedXML"),
        (expiration(""), "MalformedXML"),
        (expiration("<Days>1</Days><Date>2030-01-01T00:00:00Z</Date>"), "MalformedXML"),
        (expiration("<Days>0</Days>"), "InvalidArgument"),
        (expiration("<Days>-1</Days>"), "InvalidArgument"),
        (expiration("<Days>x</Days>"), "MalformedXML"),
        (expiration("<Date>2030-01-01T01:00:00Z</Date>"), "InvalidArgument"),
        (expiration("<Date>soon</Date>"), "MalformedXML"),
        (expiration("<ExpiredObjectDeleteMarker>1</ExpiredObjectDeleteMarker>"), "MalformedXML"),
        (whole(rule("<NoncurrentVersionExpiration/>")), "MalformedXML"),
        (
            whole(
                rule(
                    "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>"
                    "<NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>"
                )
            ),
            "InvalidArgument",
        ),
        (whole(rule("<AbortIncompleteMultipartUpload/>")), "MalformedXML"),
        (whole(rule("<Transition><Days>1</Days></Transition>")), "MalformedXML"),
        (whole(rule("<Transition><StorageClass>GLACIER</StorageClass></Transition>")), "MalformedXML"),
        (
            whole(
                rule(
                    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation>"
                    "</AbortIncompleteMultipartUpload>",
                    where="<Filter><Tag><Key>k</Key><Value/></Tag></Filter>",
                )
            ),
            "InvalidRequest",
        ),
        (whole(rule(f"<ID>{'i' * 256}</ID>{EXPIRE}")), "InvalidArgument"),
        (whole(rule(f"<ID>i</ID>{EXPIRE}"), rule(f"<ID>i</ID>{EXPIRE}")), "InvalidArgument"),
    ],
)
def test_parse_refuses(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_what_is_kept_is_what_came_with_an_id_for_each_rule() -> None:
    data = (
        b'<x:LifecycleConfiguration xmlns:x="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<x:Rule><x:Filter><x:Prefix>a&amp;b </x:Prefix></x:Filter><x:Status>Enabled</x:Status>"
        b"<x:Expiration><x:Days>1</x:Days></x:Expiration></x:Rule></x:LifecycleConfiguration>"
    )
    kept = document(data, new_id=lambda: "made")
    assert b"<Rule><ID>made</ID><Filter><Prefix>a&amp;b </Prefix></Filter><Status>Enabled</Status>" in kept
    assert stored_rules(kept) == (Rule("made", True, Filter("a&b "), expire_days=1),)
    assert document(kept, new_id=lambda: "other") == kept


def test_stored_rules_leaves_out_the_disabled() -> None:
    assert stored_rules(whole(rule(EXPIRE, status="Disabled"))) == ()
