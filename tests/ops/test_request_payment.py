"""Who pays: kept and shown."""

from __future__ import annotations

import forms
import pytest
from client import S3


def document(payer: str) -> bytes:
    return f"<RequestPaymentConfiguration><Payer>{payer}</Payer></RequestPaymentConfiguration>".encode()


def test_the_payer_round_trips(s3: S3) -> None:
    for payer in ("Requester", "BucketOwner"):
        assert s3.put("/bucket?requestPayment", document(payer)).status == 200
        assert s3.get("/bucket?requestPayment").text("Payer") == payer


@pytest.mark.parametrize("body", [document("Nobody"), document(""), b"<Tagging/>"])
def test_put_bucket_request_payment_refuses_another_document(s3: S3, body: bytes) -> None:
    assert s3.put("/bucket?requestPayment", body).code == "MalformedXML"
    assert s3.get("/bucket?requestPayment").text("Payer") == "BucketOwner"


def test_the_payer_is_the_owners_business(s3: S3, other: S3) -> None:
    assert other.put("/bucket?requestPayment", document("Requester")).code == "AccessDenied"
    assert other.get("/bucket?requestPayment").code == "AccessDenied"


# ---------------------------------------------------------------- the requester pays

READ_BY_ALL = {"x-amz-acl": "public-read"}
PAYS = {"x-amz-request-payer": "requester"}


@pytest.fixture
def paid(s3: S3) -> S3:
    """Alice, whose bucket others may read if they pay."""
    s3.put("/bucket/key", b"bytes", READ_BY_ALL)
    s3.put("/bucket?acl", headers={"x-amz-acl": "public-read-write"})
    assert s3.put("/bucket?requestPayment", document("Requester")).status == 200
    return s3


def test_who_has_not_said_that_they_pay_is_refused(paid: S3, other: S3, anonymous: S3) -> None:
    for client in (other, anonymous):
        for method, path in (("GET", "/bucket/key"), ("GET", "/bucket?list-type=2"), ("PUT", "/bucket/new")):
            answer = client.request(method, path, b"x" if method == "PUT" else b"")
            assert (answer.status, answer.code) == (403, "AccessDenied"), (method, path)
        assert client.head("/bucket/key").status == 403
    assert "x-amz-request-payer: requester" in other.get("/bucket/key").message
    assert anonymous.request("GET", "/bucket/key", headers=PAYS).code == "AccessDenied"
    assert (
        other.request("GET", "/bucket/key", headers={"x-amz-request-payer": "owner"}).code == "AccessDenied"
    )


def test_who_pays_is_told_so(paid: S3, other: S3) -> None:
    for method, path in (("GET", "/bucket/key"), ("HEAD", "/bucket/key"), ("GET", "/bucket?list-type=2")):
        answer = other.request(method, path, headers=PAYS)
        assert (answer.status, answer.headers["x-amz-request-charged"]) == (200, "requester")
    missing = other.request("GET", "/bucket/none", headers=PAYS)
    assert missing.status == 404
    assert "x-amz-request-charged" not in missing.headers
    assert other.get("/bucket/key?x-amz-request-payer=requester").body == b"bytes"


def test_the_owner_pays_anyhow(paid: S3) -> None:
    answer = paid.get("/bucket/key")
    assert (answer.status, answer.body) == (200, b"bytes")
    assert "x-amz-request-charged" not in answer.headers


def test_the_payer_of_a_copy_pays_for_its_source(paid: S3, other: S3) -> None:
    other.put("/mine")
    source = {"x-amz-copy-source": "/bucket/key"}
    assert other.put("/mine/copy", headers=source).code == "AccessDenied"
    answer = other.put("/mine/copy", headers=source | PAYS)
    assert (answer.status, answer.headers["x-amz-request-charged"]) == (200, "requester")


def test_a_form_says_it_in_a_field(paid: S3, other: S3, anonymous: S3) -> None:
    def post(**more: str) -> int:
        fields = {"key": "from form", **{name.replace("_", "-"): value for name, value in more.items()}}
        conditions = [{"bucket": "bucket"}, *({name: value} for name, value in fields.items())]
        signed = forms.v4_fields("bob-key", "bob-secret", conditions)
        body = forms.body([*fields.items(), *signed.items()])
        return anonymous.post("/bucket", body, {"Content-Type": forms.CONTENT_TYPE}).status

    assert post() == 403
    assert post(x_amz_request_payer="requester") == 204


def test_with_the_owner_as_payer_nothing_is_asked(paid: S3, anonymous: S3) -> None:
    assert paid.put("/bucket?requestPayment", document("BucketOwner")).status == 200
    assert anonymous.get("/bucket/key").body == b"bytes"
