"""What tools read before they work: every GET and HEAD of the API's model, of a fresh bucket and a fresh object.

The requests are made and the answers read by botocore itself, in process. An answer must fit the operation's
output shape: all that it requires, of the right types, and nothing that the shape does not know.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import OperationModel, Shape
from botocore.validate import ParamValidator
from client import S3
from lxml import etree

from s3lite.routes import ROUTES

MODEL = botocore.session.get_session().get_service_model("s3")
READS = [
    name for name in MODEL.operation_names if MODEL.operation_model(name).http["method"] in ("GET", "HEAD")
]
NOT_OFFERED = {route.operation for route in ROUTES if route.handler is None}

# What a fresh bucket or object does not have, by the code that the API Reference gives it.
ABSENT = {
    "GetObjectTorrent": "NoSuchKey",
    "GetBucketPolicy": "NoSuchBucketPolicy",
    "GetBucketCors": "NoSuchCORSConfiguration",
    "GetBucketLifecycle": "NoSuchLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "NoSuchLifecycleConfiguration",
    "GetBucketWebsite": "NoSuchWebsiteConfiguration",
    "GetBucketEncryption": "ServerSideEncryptionConfigurationNotFoundError",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "GetBucketTagging": "NoSuchTagSet",
    "GetBucketOwnershipControls": "OwnershipControlsNotFoundError",
    "GetPublicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
    "GetObjectLockConfiguration": "ObjectLockConfigurationNotFoundError",
    "GetObjectLegalHold": "InvalidRequest",
    "GetObjectRetention": "InvalidRequest",
    "GetObjectAnnotation": "NoSuchAnnotation",
}
# What a fresh bucket answers beyond members that are empty or repeat the request.
VALUES = {
    "GetBucketLocation": {"LocationConstraint": None},  # us-east-1
    "GetBucketPolicyStatus": {"PolicyStatus": {"IsPublic": False}},
    "GetBucketRequestPayment": {"Payer": "BucketOwner"},
    "GetBucketVersioning": {},
    "GetBucketLogging": {},
    "GetBucketNotificationConfiguration": {},
    "GetBucketAccelerateConfiguration": {},
    "GetObjectTagging": {"TagSet": []},
}


@pytest.fixture
def probe(s3: S3) -> Callable[[str], Any]:
    """Calls an operation of the model with what it requires."""
    s3.put("/bucket/key", b"x")
    upload_id = s3.start_upload("/bucket/upload")
    client = botocore.session.get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url="http://s3.test",
        aws_access_key_id=s3.credentials.access_key,
        aws_secret_access_key=s3.credentials.secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    values = {"Bucket": "bucket", "Key": "key", "UploadId": upload_id, "ObjectAttributes": ["ETag"]}

    def send(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        path, _, query = request.url.removeprefix("http://s3.test").partition("?")
        headers = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        s3.host = "s3.test"
        answer = s3.send(request.method, path, query, request.body or b"", headers)
        client.last = answer
        raw = io.BytesIO(answer.body)
        raw.stream = lambda *_args, **_more: iter((answer.body,))
        return AWSResponse(request.url, answer.status, answer.headers, raw)

    client.meta.events.register("before-send.s3", send)

    def call(operation: str) -> Any:
        shape = MODEL.operation_model(operation).input_shape
        required = shape.required_members if shape else []
        named = {name: values.get(name, "name") for name in required}
        if operation == "ListParts":
            named["Key"] = "upload"
        if operation == "ListDirectoryBuckets":
            named["MaxDirectoryBuckets"] = 5
        parsed = client._make_api_call(operation, named)
        return parsed, client.last

    return call


def foreign(shape: Shape, element: etree._Element) -> list[str]:
    """Elements that a shape has no member for."""
    found: list[str] = []
    if shape.type_name == "structure":
        members = {}
        for name, member in shape.members.items():
            is_flat = member.type_name == "list" and member.serialization.get("flattened")
            own = member.serialization.get("name", name)
            inner = member.member.serialization.get("name", own) if is_flat else own
            members[inner if is_flat else own] = member.member if is_flat else member
        for child in element:
            if child.tag not in members:
                found.append(f"{element.tag}/{child.tag}")
            else:
                found += foreign(members[child.tag], child)
    elif shape.type_name == "list":
        wanted = shape.member.serialization.get("name", "member")
        for child in element:
            found += foreign(shape.member, child) if child.tag == wanted else [f"{element.tag}/{child.tag}"]
    return found


def check_shape(model: OperationModel, parsed: dict[str, Any], answer: Any) -> None:
    """What the parser made of an answer has all that the shape requires; the body has nothing beyond the shape."""
    shape = model.output_shape
    if shape is None or model.name == "GetBucketLocation":  # whose text the parser reads in its own way
        return
    payload = shape.serialization.get("payload", "")
    members = {name: parsed[name] for name in parsed if name not in ("ResponseMetadata", payload)}
    if payload and shape.members[payload].type_name == "blob":
        assert parsed[payload].read() == b"x"
    elif answer.body:
        assert foreign(shape.members[payload] if payload else shape, answer.xml) == []
    report = ParamValidator().validate(members, shape)
    assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("operation", [name for name in READS if name not in NOT_OFFERED | set(ABSENT)])
def test_what_is_there_fits_its_shape(probe: Callable[[str], Any], operation: str) -> None:
    parsed, answer = probe(operation)
    check_shape(MODEL.operation_model(operation), parsed, answer)
    if operation in VALUES:
        assert {name: parsed[name] for name in parsed if name != "ResponseMetadata"} == VALUES[operation]


@pytest.mark.parametrize("operation", ABSENT)
def test_what_is_not_configured_has_its_own_code(probe: Callable[[str], Any], operation: str) -> None:
    with pytest.raises(ClientError) as caught:
        probe(operation)
    code = caught.value.response["Error"]["Code"]
    status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert (code, status) == (ABSENT[operation], 400 if code == "InvalidRequest" else 404)


@pytest.mark.parametrize("operation", [name for name in READS if name in NOT_OFFERED])
def test_what_is_not_offered_is_refused_by_name(probe: Callable[[str], Any], operation: str) -> None:
    with pytest.raises(ClientError, match=operation) as caught:
        probe(operation)
    error = caught.value.response["Error"]
    assert (error["Code"], error["Operation"]) == ("NotImplemented", operation)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
