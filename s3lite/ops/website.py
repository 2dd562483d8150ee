"""Buckets as websites: their configuration, and the sites served on BUCKET.domain for website domains."""

from __future__ import annotations

import html
import string
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote

from s3lite.auth.facts import About
from s3lite.context import Context
from s3lite.core import write
from s3lite.errors import Code, S3Error
from s3lite.model import ObjectVersion, RequestHead
from s3lite.ops import cors, object_read, request_payment
from s3lite.responses import NO_BODY_STATUSES, STATUS_LINES, Headers, Response, empty, xml
from s3lite.wire import website

_CONFIG = "website"
_PLAIN = string.punctuation.replace("%", "") + " "


def get_bucket_website(ctx: Context) -> Response:
    """GetBucketWebsite. Source: API Reference, GetBucketWebsite. Errors: NoSuchWebsiteConfiguration."""
    return xml(website.document(_configuration(ctx)))


def put_bucket_website(ctx: Context) -> Response:
    """PutBucketWebsite: replace a bucket's website configuration.

    Source: API Reference, PutBucketWebsite. Checked against AWS: never.
    Errors: MalformedXML, InvalidArgument (index and error document), InvalidRequest (redirects).
    Differs: HttpRedirectCode is one of 301, 302, 303, 307, 308; HostName is a host, nothing more.
    """
    document = website.dumps(website.parse(ctx.document()))
    write.commit(
        ctx.store,
        lambda tx: tx.put_bucket_config(write.live_bucket(tx, ctx.bucket).id, _CONFIG, document),
    )
    return empty(200)


def delete_bucket_website(ctx: Context) -> Response:
    """DeleteBucketWebsite. Source: API Reference, DeleteBucketWebsite. Checked against AWS: never."""
    write.commit(ctx.store, lambda tx: tx.delete_bucket_config(ctx.bucket.id, _CONFIG))
    return empty(204)


def _configuration(ctx: Context) -> website.Website:
    with ctx.store.catalog.read() as tx:
        stored = tx.bucket_config(ctx.bucket.id, _CONFIG)
    if stored is None:
        raise S3Error(Code.NoSuchWebsiteConfiguration, BucketName=ctx.bucket.name)
    return website.loads(stored)


# ---------------------------------------------------------------- the site


def is_site(head: RequestHead, domains: Sequence[str]) -> bool:
    """True for a request to BUCKET.domain of a website domain."""
    if not domains or not head.target.virtual_host:
        return False
    name = head.origin.partition("://")[2].lower()
    if name.rpartition(":")[2].isdigit():
        name = name.rpartition(":")[0]
    return name[len(head.target.bucket) + 1 :] in domains


def serve(ctx: Context) -> Response:
    """WebsiteRequest: a page of a bucket's site, to anyone who may read the object.

    Source: User Guide, "Website endpoints", "Custom error document", "Webpage redirect". Checked against
    AWS: never.
    Errors, as pages: NoSuchWebsiteConfiguration, NoSuchKey, AccessDenied, MethodNotAllowed.
    Differs: signatures, versionId and response-* are not looked at; redirects to the same host are paths;
    x-amz-website-redirect-location counts on objects of the bucket's owner only.
    """
    if ctx.head.method == "OPTIONS":
        return cors.preflight(ctx)
    if ctx.head.method not in ("GET", "HEAD"):
        raise S3Error(Code.MethodNotAllowed, headers={"Allow": "GET, HEAD, OPTIONS"})
    request_payment.check(ctx, ctx.bucket)
    site, requested = _configuration(ctx), ctx.key
    rule = website.rule_for(site, requested)
    if rule is not None:
        return _redirect_by(ctx, rule, requested)
    is_folder = not requested or requested.endswith("/")
    try:
        version = _published(ctx, requested + site.index if is_folder else requested)
    except S3Error as problem:
        if not is_folder and _exists(ctx, f"{requested}/{site.index}"):
            return _redirect(302, website.folder(requested, ctx.head.mount_prefix))
        return _failed(ctx, site, requested, problem)
    if version.head.website_redirect and version.owner_id == ctx.bucket.owner_id:
        location = website.object_location(version.head.website_redirect, ctx.head.mount_prefix)
        if location is not None:
            return _redirect(301, location)
    return _content(ctx, version)


def _published(ctx: Context, key: str) -> ObjectVersion:
    """The object that stands for the request, which is about ``key`` from here on.

    Raises NoSuchKey and AccessDenied, as reading it over the API would.
    """
    ctx.head = replace(ctx.head, target=replace(ctx.target, key=key))
    with ctx.store.catalog.read() as tx:
        version = tx.current_version(ctx.bucket.id, key)
    if version is None or version.is_delete_marker:
        ctx.require("s3:ListBucket", about=About(prefix=key))
        raise S3Error(Code.NoSuchKey, Key=key)
    ctx.require("s3:GetObject", about=About(version=version))
    return version


def _exists(ctx: Context, key: str) -> bool:
    try:
        _published(ctx, key)
    except S3Error:
        return False
    return True


def _content(ctx: Context, version: ObjectVersion) -> Response:
    ctx.version = version
    return object_read.head_object(ctx) if ctx.head.method == "HEAD" else object_read.get_object(ctx)


def _failed(ctx: Context, site: website.Website, requested: str, problem: S3Error) -> Response:
    """A routing rule for the error, else the error document with the error's status, else the error."""
    rule = website.rule_for(site, requested, error=problem.status)
    if rule is not None:
        return _redirect_by(ctx, rule, requested)
    if not site.error_key:
        raise problem
    try:
        version = _published(ctx, site.error_key)
    except S3Error:
        raise problem from None
    ctx.head = replace(ctx.head, headers={})  # conditions and ranges were about another object
    response = _content(ctx, version)
    response.status, response.error = problem.status, problem.code.wire_name
    response.headers += _error_headers(problem)
    return response


def _error_headers(problem: S3Error) -> Headers:
    """What programs see of an error that people get as a page, as S3 names it; values beyond ASCII are escaped."""
    facts = {"code": problem.code.wire_name, "message": problem.message}
    facts |= {f"detail-{name}": value for name, value in problem.details.items()}
    return [(f"x-amz-error-{name}", quote(value, safe=_PLAIN)) for name, value in facts.items()]


def _redirect_by(ctx: Context, rule: website.RoutingRule, key: str) -> Response:
    location = website.location(rule, key, origin=ctx.head.origin, mount_prefix=ctx.head.mount_prefix)
    return _redirect(rule.redirect.code, location)


def _redirect(status: int, location: str) -> Response:
    return empty(status, [("Location", location)])


def error_page(problem: S3Error, *, request_id: str) -> Response:
    """What people see where there is no error document."""
    headers: Headers = [*problem.headers.items(), *_error_headers(problem)]
    if problem.status in NO_BODY_STATUSES:
        return Response(problem.status, headers, error=problem.code.wire_name)
    headers.append(("Content-Type", "text/html; charset=utf-8"))
    title = STATUS_LINES[problem.status]
    facts = {
        "Code": problem.code.wire_name,
        "Message": problem.message,
        **problem.details,
        "RequestId": request_id,
    }
    rows = "".join(f"<li>{name}: {html.escape(value)}</li>" for name, value in facts.items())
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><title>{title}</title></head>'
        f"<body><h1>{title}</h1><ul>{rows}</ul></body></html>\n"
    )
    return Response(problem.status, headers, page.encode("utf-8", "replace"), error=problem.code.wire_name)
