"""The table against the API's own model, which ships inside botocore."""

from __future__ import annotations

import itertools
import re

import botocore.session
import pytest

from s3lite.context import Level
from s3lite.dispatch import CARRIERS, Dispatcher, level_of
from s3lite.errors import Code, S3Error
from s3lite.model import RequestHead, Target
from s3lite.routes import ROUTES
from s3lite.target import parse_query

MODEL = botocore.session.get_session().get_service_model("s3")
DISPATCHER = Dispatcher(ROUTES)

# Deprecated names of operations whose request is the same as that of their successor.
TWINS = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
}
# What the model's URI does not say and a real request always carries.
REQUIRED = {
    "CopyObject": ({}, {"x-amz-copy-source": "b/k"}),
    "UploadPart": ({"partNumber": "1", "uploadId": "u"}, {}),
    "UploadPartCopy": ({"partNumber": "1", "uploadId": "u"}, {"x-amz-copy-source": "b/k"}),
    "CompleteMultipartUpload": ({"uploadId": "u"}, {}),
    "AbortMultipartUpload": ({"uploadId": "u"}, {}),
    "ListParts": ({"uploadId": "u"}, {}),
    "ListDirectoryBuckets": ({"max-directory-buckets": "5"}, {}),
    "WriteGetObjectResponse": ({}, {"x-amz-request-route": "r"}),
    "GetObjectAnnotation": ({"annotationName": "a"}, {}),
    "PutObjectAnnotation": ({"annotationName": "a"}, {}),
    "DeleteObjectAnnotation": ({"annotationName": "a"}, {}),
} | {
    f"GetBucket{kind}Configuration": ({"id": "i"}, {})
    for kind in ("Analytics", "Inventory", "Metrics", "IntelligentTiering")
}


def head(
    method: str, bucket: str, key: str, query: str, headers: dict[str, str] | None = None
) -> RequestHead:
    return RequestHead(
        method=method,
        path="/",
        query=query,
        headers=headers or {},
        target=Target(bucket, key),
        query_items=parse_query(query),
    )


def match(request: RequestHead) -> str:
    return DISPATCHER.match(request, dict(request.query_items)).operation


def outcome(request: RequestHead) -> str | int:
    """The operation, or the status of the refusal."""
    try:
        return match(request)
    except S3Error as error:
        return error.status


@pytest.mark.parametrize("operation", MODEL.operation_names)
def test_every_operation_of_the_model_is_told_apart(operation: str) -> None:
    http = MODEL.operation_model(operation).http
    path, _, query = http["requestUri"].partition("?")
    params, headers = REQUIRED.get(operation, ({}, {}))
    query = "&".join([query, *(f"{name}={value}" for name, value in params.items())]).strip("&")
    bucket = "bucket" if path != "/" else ""
    key = "key" if "Key" in path else ""
    found = match(head(http["method"], bucket, key, query, headers))
    assert found == TWINS.get(operation, operation)


def test_the_table_names_only_operations_of_the_model() -> None:
    ours = {
        "PostObject",
        "PreflightRequest",
        "SecurityTokenService",
        "GetBucketSyncing",
        "PutBucketSyncing",
        "GetBucketInfo",
        "GetObjectMeta",
        "AppendObject",
        "GetBucketCallback",
        "PutBucketCallback",
        "DeleteBucketCallback",
    }
    assert {route.operation for route in ROUTES} - set(MODEL.operation_names) == ours


def test_operations_are_unique() -> None:
    names = [route.operation for route in ROUTES]
    assert len(names) == len(set(names))


SUBRESOURCES = sorted({route.subresource for route in ROUTES if route.subresource})


@pytest.mark.parametrize("key", ["", "key"])
def test_two_subresources_are_refused(key: str) -> None:
    words = [word for word in SUBRESOURCES if not key or word not in CARRIERS]
    for pair in itertools.combinations(words, 2):
        for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
            with pytest.raises(S3Error) as caught:
                match(head(method, "bucket", key, "&".join(pair)))
            assert caught.value.code is Code.InvalidArgument


@pytest.mark.parametrize(
    ("query", "operation"),
    [
        ("callback=e30", "PutObject"),
        ("callback", "PutObject"),
        ("uploadId=u&partNumber=1&callback=e30", "UploadPart"),
        ("acl&callback=e30", "PutObjectAcl"),
    ],
)
def test_a_callback_that_an_object_request_carries_picks_no_operation(query: str, operation: str) -> None:
    assert match(head("PUT", "bucket", "key", query)) == operation


@pytest.mark.parametrize("word", SUBRESOURCES)
def test_a_word_of_another_level_is_never_another_operation(word: str) -> None:
    rows = [route for route in ROUTES if route.subresource == word]
    targets = {Level.SERVICE: ("", ""), Level.BUCKET: ("bucket", ""), Level.OBJECT: ("bucket", "key")}
    for level, (bucket, key) in targets.items():
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            mine = {route.operation for route in rows if route.level is level and route.method == method}
            if level is Level.OBJECT and word in CARRIERS:
                mine = {outcome(head(method, bucket, key, ""))}
            assert outcome(head(method, bucket, key, f"{word}=x")) in {400, 405, *mine}


def test_an_unknown_method_is_answered_with_allow() -> None:
    with pytest.raises(S3Error) as caught:
        match(head("PATCH", "bucket", "key", ""))
    assert caught.value.status == 405
    assert caught.value.headers["Allow"] == "DELETE, GET, HEAD, PUT"


@pytest.mark.parametrize("query", ["", "acl", "uploadId=u&partNumber=1", "acl&tagging"])
def test_options_asks_about_any_request(query: str) -> None:
    for key in ("", "key"):
        assert outcome(head("OPTIONS", "bucket", key, query)) == "PreflightRequest"
    assert outcome(head("OPTIONS", "", "", "")) == 405


def test_unknown_query_names_are_ignored() -> None:
    assert match(head("PUT", "bucket", "key", "x-id=PutObject")) == "PutObject"


def test_permissions_are_named_like_iam_actions() -> None:
    for route in ROUTES:
        assert re.fullmatch(r"(s3[a-z-]*|sts):[A-Z]\w+", route.permission), route


def test_levels() -> None:
    assert level_of(Target("", "")) is Level.SERVICE
    assert level_of(Target("b", "")) is Level.BUCKET
    assert level_of(Target("b", "/")) is Level.OBJECT
