"""Who pays: kept and shown."""

from __future__ import annotations

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
