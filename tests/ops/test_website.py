"""Buckets as websites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from client import S3, Answer
from conftest import add_user

from s3lite.app import Application, create_app
from s3lite.settings import Settings, SettingsError, load

PUBLIC = {"x-amz-acl": "public-read", "Content-Type": "text/html"}
INDEX = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
ERROR = "<ErrorDocument><Key>error.html</Key></ErrorDocument>"


def document(inner: str = INDEX + ERROR) -> bytes:
    return f"<WebsiteConfiguration>{inner}</WebsiteConfiguration>".encode()


def rule(redirect: str, condition: str = "") -> bytes:
    when = f"<Condition>{condition}</Condition>" if condition else ""
    inner = f"<RoutingRule>{when}<Redirect>{redirect}</Redirect></RoutingRule>"
    return document(f"{INDEX}{ERROR}<RoutingRules>{inner}</RoutingRules>")


@pytest.fixture
def app(settings: Settings) -> Iterator[Application]:
    application = create_app(
        replace(settings, domains=("s3.test", "api.web.test"), website_domains=("web.test", "web.s3.test"))
    )
    yield application
    application.close()


@pytest.fixture
def site(s3: S3) -> S3:
    """Anybody's browser on the site of ``bucket``, which may be listed and has three pages."""
    s3.put("/bucket?acl", b"", {"x-amz-acl": "public-read"})
    assert s3.put("/bucket?website", document()).status == 200
    for key in ("index.html", "docs/index.html", "error.html"):
        assert s3.put(f"/bucket/{key}", key.encode(), PUBLIC).status == 200
    return browser(s3)


def browser(s3: S3, host: str = "bucket.web.test:8000") -> S3:
    return S3(s3.wsgi, None, host=host)


def page(answer: Answer) -> tuple[int, bytes]:
    return answer.status, answer.body


# ---------------------------------------------------------------- the configuration


def test_the_configuration_round_trips(s3: S3, other: S3) -> None:
    assert s3.get("/bucket?website").code == "NoSuchWebsiteConfiguration"
    assert s3.put("/bucket?website", document()).status == 200
    assert s3.get("/bucket?website").text("IndexDocument/Suffix") == "index.html"
    assert s3.get("/bucket?website").text("ErrorDocument/Key") == "error.html"
    assert s3.put("/bucket?website", document("")).code == "InvalidArgument"
    for answer in (
        other.get("/bucket?website"),
        other.put("/bucket?website", document()),
        other.delete("/bucket?website"),
    ):
        assert answer.code == "AccessDenied"
    assert s3.delete("/bucket?website").status == 204
    assert s3.get("/bucket?website").code == "NoSuchWebsiteConfiguration"


def test_a_domain_is_for_buckets_or_for_sites() -> None:
    with pytest.raises(SettingsError, match=r"web\.test"):
        load(environ={"S3LITE_DOMAINS": "a,web.test", "S3LITE_WEBSITE_DOMAINS": "web.test"})


# ---------------------------------------------------------------- pages


def test_pages_are_served(site: S3) -> None:
    assert page(site.get("/")) == (200, b"index.html")
    assert page(site.get("/docs/")) == (200, b"docs/index.html")
    assert page(site.get("/docs/index.html?versionId=x&acl")) == (200, b"docs/index.html")
    answer = site.get("/index.html", Range="bytes=0-4")
    assert page(answer) == (206, b"index")
    assert answer.headers["Content-Type"] == "text/html"
    assert page(site.get("/", If_None_Match=answer.headers["ETag"])) == (304, b"")
    answer = site.head("/")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "10", b"")


def test_a_folder_without_its_slash_is_a_redirect(site: S3) -> None:
    answer = site.get("/docs")
    assert (answer.status, answer.headers["Location"]) == (302, "/docs/")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_error_document_has_the_errors_status(site: S3, method: str) -> None:
    answer = site.request(method, "/none", headers={"Range": "bytes=0-1", "If-None-Match": "*"})
    assert page(answer) == (404, b"error.html" if method == "GET" else b"")
    assert answer.headers["Content-Type"] == "text/html"


def test_without_an_error_document_there_is_a_page(s3: S3, site: S3) -> None:
    s3.delete("/bucket/error.html")
    answer = site.get("/<script>")
    assert answer.status == 404
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"NoSuchKey" in answer.body
    assert b"<script>" not in answer.body
    assert site.head("/none").status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_headers_name_the_error_with_and_without_a_document(s3: S3, site: S3, method: str) -> None:
    for _ in range(2):
        answer = site.request(method, "/no such/ü%")
        assert answer.status == 404
        assert answer.headers["x-amz-error-code"] == "NoSuchKey"
        assert answer.headers["x-amz-error-message"] == "The specified key does not exist."
        assert answer.headers["x-amz-error-detail-Key"] == "no such/%C3%BC%25"
        s3.delete("/bucket/error.html")
    assert "x-amz-error-code" not in site.get("/index.html").headers


@pytest.mark.parametrize("location", ["a.example/x", "javascript:alert(1)", "/" + "x" * 2048])
def test_a_redirect_that_leads_nowhere_is_refused(s3: S3, location: str) -> None:
    answer = s3.put("/bucket/moved", b"", {"x-amz-website-redirect-location": location})
    assert (answer.status, answer.code) == (400, "InvalidRedirectLocation")
    assert s3.put("/bucket/moved", b"", {"x-amz-website-redirect-location": "/" + "x" * 2047}).status == 200


def test_a_site_whose_visitors_would_pay_is_closed(s3: S3, site: S3) -> None:
    body = b"<RequestPaymentConfiguration><Payer>Requester</Payer></RequestPaymentConfiguration>"
    assert s3.put("/bucket?requestPayment", body).status == 200
    assert site.get("/index.html").status == 403


def test_what_is_not_public_is_403(s3: S3, site: S3) -> None:
    s3.put("/bucket/secret.html", b"secret")
    assert page(site.get("/secret.html")) == (403, b"error.html")
    s3.put("/bucket?acl", b"", {"x-amz-acl": "private"})
    assert page(site.get("/none")) == (403, b"error.html")
    s3.put("/bucket/error.html", b"secret")
    answer = site.get("/none")
    assert answer.status == 403
    assert b"secret" not in answer.body
    presigned = s3.presign("GET", "/bucket/secret.html").replace("/bucket/", "/")
    assert site.open("GET", presigned).status == 403


def test_a_site_is_only_read(site: S3) -> None:
    for method in ("PUT", "POST", "DELETE"):
        answer = site.request(method, "/index.html", b"x" if method != "DELETE" else b"")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert page(site.get("/index.html")) == (200, b"index.html")


def test_hosts(s3: S3, site: S3) -> None:
    assert page(browser(s3, "BUCKET.web.test").get("/")) == (200, b"index.html")
    assert page(browser(s3, "bucket.web.s3.test").get("/")) == (200, b"index.html")
    assert browser(s3, "bucket.s3.test").get("/").xml.tag == "ListBucketResult"
    assert browser(s3, "bucket.api.web.test").get("/").xml.tag == "ListBucketResult"
    assert browser(s3, "web.test").get("/bucket").xml.tag == "ListBucketResult"
    assert b"NoSuchBucket" in browser(s3, "missing.web.test").get("/").body
    s3.delete("/bucket?website")
    answer = site.get("/")
    assert answer.status == 404
    assert b"NoSuchWebsiteConfiguration" in answer.body


# ---------------------------------------------------------------- redirects


def test_all_requests_are_redirected(s3: S3, site: S3) -> None:
    all_to = "<RedirectAllRequestsTo><HostName>a.example</HostName>{}</RedirectAllRequestsTo>"
    s3.put("/bucket?website", document(all_to.format("<Protocol>https</Protocol>")))
    answer = site.get("/a b")
    assert (answer.status, answer.headers["Location"]) == (301, "https://a.example/a%20b")
    s3.put("/bucket?website", document(all_to.format("")))
    assert site.get("/").headers["Location"] == "http://a.example/"


def test_a_rule_by_prefix_decides_before_the_object(s3: S3, site: S3) -> None:
    s3.put(
        "/bucket?website",
        rule(
            "<ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith><HttpRedirectCode>302</HttpRedirectCode>",
            "<KeyPrefixEquals>docs/</KeyPrefixEquals>",
        ),
    )
    answer = site.get("/docs/index.html")
    assert (answer.status, answer.headers["Location"]) == (302, "/new/index.html")
    assert page(site.get("/")) == (200, b"index.html")


def test_a_rule_by_error_decides_before_the_error_document(s3: S3, site: S3) -> None:
    not_found = "<HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
    s3.put("/bucket?website", rule("<ReplaceKeyPrefixWith>#!/</ReplaceKeyPrefixWith>", not_found))
    answer = site.get("/page")
    assert (answer.status, answer.headers["Location"]) == (301, "/#!/page")
    assert page(site.get("/")) == (200, b"index.html")
    s3.put("/bucket/secret.html", b"secret")
    assert page(site.get("/secret.html")) == (403, b"error.html")


def test_an_object_of_the_owner_redirects(app: Application, s3: S3, site: S3) -> None:
    redirect = PUBLIC | {"x-amz-website-redirect-location": "https://a.example/x"}
    s3.put("/bucket/moved", b"", redirect)
    answer = site.get("/moved")
    assert (answer.status, answer.headers["Location"]) == (301, "https://a.example/x")
    s3.put("/bucket?acl", b"", {"x-amz-acl": "public-read-write"})
    assert add_user(app, "carol").put("/bucket/theirs", b"page", redirect).status == 200
    answer = site.get("/theirs")
    assert answer.status == 200
    assert "Location" not in answer.headers


def test_sites_have_the_buckets_cors_headers(s3: S3, site: S3) -> None:
    s3.put(
        "/bucket?cors",
        b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
        b"</CORSRule></CORSConfiguration>",
    )
    assert site.get("/none", Origin="https://a").headers["Access-Control-Allow-Origin"] == "*"
    asked = {"Origin": "https://a", "Access-Control-Request-Method": "GET"}
    assert site.request("OPTIONS", "/docs/", headers=asked).status == 200
