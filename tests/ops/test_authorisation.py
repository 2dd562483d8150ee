"""Each operation is allowed by the permission of its row, and by nothing else."""

from __future__ import annotations

import json

import pytest
from client import S3
from conftest import ROOT_KEY, ROOT_SECRET, add_key

from s3lite.auth.actions import ACTIONS, versioned
from s3lite.auth.authorize import OBJECT_ACTIONS, PERMISSIONS
from s3lite.context import Level, Route
from s3lite.routes import BY_BODY, ROUTES, UNSIGNED

WALKED = [
    route
    for route in ROUTES
    if route.handler is not None
    and route.level is not Level.SERVICE
    and route.operation not in {*UNSIGNED, "CreateBucket"}
]
VERSIONED = [
    route
    for route in WALKED
    if route.level is Level.OBJECT and versioned(route.permission, "v") != route.permission
]
# What an operation needs of another object, or beside its row's permission.
INHERENT = {
    "CopyObject": ["s3:GetObject"],
    "UploadPartCopy": ["s3:GetObject"],
    "GetObjectAttributes": ["s3:GetObject", "s3:GetObjectVersion"],
    "RenameObject": ["s3:DeleteObject", "s3:GetObject"],
}
FOR_OWNERS = {"PutBucketLogging"}  # whatever a policy says: API Reference
HEADERS = {
    "x-amz-copy-source": "/bucket/source",
    "x-amz-rename-source": "source",
    "x-amz-object-attributes": "ETag",
}
BODIES = {
    "DeleteObjects": b"<Delete><Object><Key>key</Key></Object></Delete>",
    "PutObjectTagging": b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
}

names = pytest.mark.parametrize("route", WALKED, ids=lambda route: route.operation)
versions = pytest.mark.parametrize("route", VERSIONED, ids=lambda route: route.operation)


def ask(client: S3, route: Route, *, key: str = "key", version_id: str = ""):
    """The smallest request that is this operation."""
    path = f"/bucket/{key}" if route.level is Level.OBJECT else "/bucket"
    values = {"uploadId": "uploadId=u&partNumber=1", "list-type": "list-type=2", None: ""}
    query = [
        values.get(route.subresource, route.subresource),
        f"versionId={version_id}" if version_id else "",
    ]
    if route.when == "annotationName":
        query.append("annotationName=name")
    wanted = {route.when} if route.when and route.when.startswith("x-") else set()
    if route.operation == "GetObjectAttributes":
        wanted.add("x-amz-object-attributes")
    if route.operation == "RenameObject":
        wanted.add("x-amz-rename-source")
    headers = {name: HEADERS[name] for name in wanted}
    joined = "&".join(filter(None, query))
    body = BODIES.get(route.operation, b"")
    return client.request(route.method, f"{path}?{joined}" if joined else path, body, headers)


def put_policy(s3: S3, *statements: dict) -> None:
    rows = [
        {"Effect": "Allow", "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"], **statement}
        for statement in statements
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": rows}).encode()
    assert s3.put("/bucket?policy", document).status == 204


BOB = {"Principal": {"AWS": "bob"}}


@pytest.fixture(autouse=True)
def objects(s3: S3) -> None:
    for key in ("key", "source"):
        s3.put(f"/bucket/{key}", b"x")


@names
def test_without_exactly_this_permission_it_is_refused(s3: S3, other: S3, route: Route) -> None:
    put_policy(s3, {**BOB, "NotAction": route.permission})
    assert ask(other, route).status == 403


@names
def test_with_exactly_this_permission_it_is_let_through(s3: S3, other: S3, route: Route) -> None:
    put_policy(s3, {**BOB, "Action": [route.permission, *INHERENT.get(route.operation, [])]})
    answer = ask(other, route)
    assert (answer.status == 403) == (route.operation in FOR_OWNERS)
    if route.operation in FOR_OWNERS:
        return
    assert b"AccessDenied" not in answer.body


@names
def test_what_it_needs_beside_its_permission_is_refused_alike(s3: S3, other: S3, route: Route) -> None:
    for action in INHERENT.get(route.operation, [])[:1]:
        put_policy(s3, {**BOB, "NotAction": action})
        assert ask(other, route).status in (403, 404)  # 404: the open upload of UploadPartCopy comes first


@names
def test_a_denial_outweighs_ownership(s3: S3, root: S3, route: Route) -> None:
    put_policy(s3, {"Principal": "*", "Effect": "Deny", "Action": route.permission})
    for client in (s3, root):
        answer = ask(client, route)
        if "Policy" in route.permission and "Status" not in route.permission:
            assert answer.status != 403  # or nobody could ever mend it
        elif route.operation == "DeleteObjects":
            assert answer.texts("Error/Code") == ["AccessDenied"]
        else:
            assert answer.status == 403


@names
def test_nobody_else_has_it_without_policy(other: S3, anonymous: S3, route: Route) -> None:
    assert ask(other, route).status == 403
    assert ask(anonymous, route).status == 403


@versions
def test_a_version_takes_a_permission_of_its_own(s3: S3, other: S3, route: Route) -> None:
    twin = versioned(route.permission, "null")
    inherent = INHERENT.get(route.operation, [])
    put_policy(s3, {**BOB, "NotAction": twin})
    assert ask(other, route, version_id="null").status == 403
    put_policy(s3, {**BOB, "Action": [twin, *inherent]})
    assert ask(other, route, version_id="null").status != 403
    assert ask(other, route).status == 403 or route.permission in inherent


@names
def test_a_public_policy_stops_at_the_block(s3: S3, other: S3, anonymous: S3, route: Route) -> None:
    put_policy(s3, {"Principal": "*", "Action": "s3:*"})
    body = (
        b"<PublicAccessBlockConfiguration><RestrictPublicBuckets>true</RestrictPublicBuckets>"
        b"</PublicAccessBlockConfiguration>"
    )
    assert s3.put("/bucket?publicAccessBlock", body).status == 200
    assert ask(anonymous, route).status == 403
    assert ask(other, route).status == 403
    assert ask(s3, route).status != 403


ON_OBJECTS = [route for route in WALKED if route.level is Level.OBJECT]


@pytest.mark.parametrize("route", ON_OBJECTS, ids=lambda route: route.operation)
def test_a_refusal_does_not_tell_whether_the_object_is_there(
    s3: S3, other: S3, anonymous: S3, route: Route
) -> None:
    put_policy(s3, {**BOB, "NotAction": [route.permission, "s3:ListBucket"]})
    for client in (other, anonymous):
        there, missing = ask(client, route), ask(client, route, key="no-such")
        assert there.status == missing.status == 403
        assert (there.body == missing.body == b"") or there.message == missing.message
        assert set(there.headers) == set(missing.headers)


@pytest.mark.parametrize(
    "route", [r for r in ON_OBJECTS if r.permission in OBJECT_ACTIONS], ids=lambda route: route.operation
)
def test_those_who_may_not_list_never_learn_that_it_is_missing(s3: S3, other: S3, route: Route) -> None:
    put_policy(s3, {**BOB, "Action": [route.permission, *INHERENT.get(route.operation, [])]})
    assert ask(other, route, key="no-such").status == 403
    put_policy(s3, {**BOB, "Action": [route.permission, "s3:ListBucket", *INHERENT.get(route.operation, [])]})
    assert ask(other, route, key="no-such").status in (400, 404)  # 400: a bucket without object lock


# ---------------------------------------------------------------- keys with a policy of their own

ALL = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
SERVICE = [r for r in ROUTES if r.handler is not None and r.operation in {"ListBuckets", "CreateBucket"}]
everything = pytest.mark.parametrize("route", [*WALKED, *SERVICE], ids=lambda route: route.operation)


def _policy(statement: dict, rows: list[dict] | None) -> dict:
    return {"Version": "2012-10-17", "Statement": rows or [{**ALL, **statement}]}


def by_key(client: S3, *, rows: list[dict] | None = None, **statement: object) -> S3:
    """The same user with a further key, which may do what the statement says."""
    return add_key(client, json.dumps(_policy(statement, rows)))


def by_session(client: S3, *, rows: list[dict] | None = None, **statement: object) -> S3:
    """The same user in a session, which may do what the statement says."""
    return client.assume(_policy(statement, rows))


narrowed = pytest.mark.parametrize("limited", [by_key, by_session])


def ask_service(client: S3, route: Route):
    return client.get("/") if route.operation == "ListBuckets" else client.put("/another")


def ask_any(client: S3, route: Route):
    return ask_service(client, route) if route in SERVICE else ask(client, route)


@narrowed
@everything
def test_a_key_whose_policy_denies_exactly_this_is_refused(limited, s3: S3, root: S3, route: Route) -> None:
    for owner in (s3, S3(s3.wsgi, ROOT_KEY, ROOT_SECRET)):
        denied = {"Effect": "Deny", "Action": route.permission, "Resource": "*"}
        answer = ask_any(limited(owner, rows=[ALL, denied]), route)
        if route.operation == "DeleteObjects":
            assert answer.texts("Error/Code") == ["AccessDenied"]
        else:
            assert answer.status == 403
    assert ask_any(s3, route).status != 403  # the user's other key is as before


@narrowed
@everything
def test_a_key_that_may_do_all_but_this_is_refused(limited, s3: S3, route: Route) -> None:
    client = limited(s3, rows=[{"Effect": "Allow", "NotAction": route.permission, "Resource": "*"}])
    assert ask_any(client, route).status == 403


@narrowed
@everything
def test_a_key_that_may_do_exactly_this_is_let_through(limited, s3: S3, route: Route) -> None:
    actions = [route.permission, *INHERENT.get(route.operation, [])]
    answer = ask_any(limited(s3, Action=actions), route)
    assert answer.status != 403
    assert b"AccessDenied" not in answer.body


@narrowed
@everything
def test_a_policy_of_a_key_gives_nothing_that_its_user_lacks(
    limited, s3: S3, other: S3, route: Route
) -> None:
    expected = 403 if route not in SERVICE else 200
    assert ask_any(limited(other), route).status == expected


@narrowed
@pytest.mark.parametrize("route", ON_OBJECTS, ids=lambda route: route.operation)
def test_a_limited_key_does_not_learn_whether_the_object_is_there(limited, s3: S3, route: Route) -> None:
    client = limited(s3, rows=[{**ALL, "Resource": "arn:aws:s3:::bucket/mine/*"}])
    there, missing = ask(client, route), ask(client, route, key="no-such")
    assert there.status == missing.status == 403
    assert (there.body == missing.body == b"") or there.message == missing.message


@narrowed
def test_a_key_is_held_to_its_resources_and_conditions(limited, s3: S3) -> None:
    mine = "arn:aws:s3:::bucket/${aws:username}/*"
    client = limited(
        s3,
        rows=[
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"],
                "Resource": mine,
            },
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::bucket",
                "Condition": {"StringLike": {"s3:prefix": "${aws:username}/*"}},
            },
        ],
    )
    assert client.put("/bucket/alice/a", b"x").status == 200
    assert client.put("/bucket/bob/a", b"x").status == 403
    assert client.keys("bucket", "&prefix=alice%2F") == ["alice/a"]
    assert client.get("/bucket?list-type=2").status == 403
    assert client.put("/bucket/alice/b", headers={"x-amz-copy-source": "/bucket/key"}).status == 403
    assert client.put("/bucket/alice/b", headers={"x-amz-copy-source": "/bucket/alice/a"}).status == 200
    both = b"<Delete><Object><Key>key</Key></Object><Object><Key>alice/b</Key></Object></Delete>"
    answer = client.post("/bucket?delete", both)
    assert (answer.texts("Error/Key"), answer.texts("Deleted/Key")) == (["key"], ["alice/b"])
    assert client.post("/bucket/other?uploads").status == 403


@narrowed
@pytest.mark.parametrize(
    ("headers", "needed"),
    [
        ({"x-amz-tagging": "a=b"}, "s3:PutObjectTagging"),
        ({"x-amz-acl": "public-read"}, "s3:PutObjectAcl"),
    ],
)
def test_a_key_does_not_smuggle_tags_or_acls_into_uploads(limited, s3: S3, headers, needed) -> None:
    assert limited(s3, Action="s3:PutObject").put("/bucket/new", b"x", headers).status == 403
    assert limited(s3, Action=["s3:PutObject", needed]).put("/bucket/new", b"x", headers).status == 200


@narrowed
def test_root_cannot_be_locked_out_by_a_bucket_policy_but_its_limited_keys_are_limited(
    limited, s3: S3, root: S3
) -> None:
    put_policy(s3, {"Principal": "*", "Effect": "Deny", "Action": "s3:*"})
    assert limited(root, Action="s3:GetObject").get("/bucket?policy").status == 403
    assert limited(root).get("/bucket?policy").status == 200


def test_every_permission_is_an_action_that_policies_can_name() -> None:
    permissions = {route.permission for route in ROUTES if route.permission.startswith("s3:")}
    assert permissions - ACTIONS == {"s3:PreflightRequest"}
    assert set(PERMISSIONS) <= ACTIONS
    assert {versioned(action, "v") for action in ACTIONS} <= ACTIONS
    assert {route.operation for route in ROUTES} >= BY_BODY


def test_the_service_is_for_those_with_an_account(anonymous: S3, other: S3) -> None:
    assert anonymous.get("/").status == 403
    assert anonymous.put("/another").status == 403
    assert other.get("/").status == 200
    assert other.put("/another").status == 200
