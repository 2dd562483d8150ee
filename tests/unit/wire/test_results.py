"""The outside opinion here is botocore: its parser, driven by the service model, reads what is written."""

from urllib.parse import unquote

import botocore.handlers
import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from s3lite.model import (
    Account,
    Acl,
    Bucket,
    Checksum,
    Grant,
    ListedKind,
    ListedObject,
    ListedVersion,
    ObjectHead,
    Part,
    Segment,
    Upload,
)
from s3lite.times import iso8601
from s3lite.wire import elements, listings, results

MODEL = botocore.session.get_session().get_service_model("s3")
PARSER = create_parser("rest-xml")
OWNER = Account("owner$1", "Owner & Co")
MODIFIED_MS = 1_700_000_000_123
MODIFIED = "2023-11-14T22:13:20"


def read_back(operation: str, document: bytes) -> dict:
    """The document as botocore understands it."""
    shape = MODEL.operation_model(operation).output_shape
    parsed = PARSER.parse({"status_code": 200, "headers": {}, "body": document}, shape)
    parsed.pop("ResponseMetadata")
    return parsed


def order(document: bytes) -> list[str]:
    return [etree.QName(child).localname for child in etree.fromstring(document)]


def objects_page(**changes) -> listings.ObjectsPage:
    values = {
        "bucket": "b", "prefix": "p", "delimiter": "", "max_keys": 10, "is_truncated": False,
        "entries": [ListedObject("p/a", 5, "abc", MODIFIED_MS, ListedKind(OWNER.id, "STANDARD", "", ""))],
        "common_prefixes": [], "owners": {OWNER.id: OWNER},
    }  # fmt: skip
    return listings.ObjectsPage(**values | changes)


def test_list_buckets():
    bucket = Bucket(1, "b", OWNER.id, MODIFIED_MS, "us-east-1", Acl(OWNER.id))
    parsed = read_back(
        "ListBuckets", results.list_buckets(owner=OWNER, buckets=[bucket], prefix="x", continuation_token="t")
    )
    assert parsed["Owner"] == {"ID": "owner$1", "DisplayName": "Owner & Co"}
    assert parsed["Buckets"][0]["Name"] == "b"
    assert parsed["Buckets"][0]["CreationDate"].isoformat().startswith(MODIFIED)
    assert (parsed["Prefix"], parsed["ContinuationToken"]) == ("x", "t")
    assert read_back("ListBuckets", results.list_buckets(owner=OWNER, buckets=[]))["Buckets"] == []


def test_list_objects():
    document = listings.list_objects(
        objects_page(delimiter="/", marker="m", next_marker="n", is_truncated=True, common_prefixes=["p/x/"])
    )
    parsed = read_back("ListObjects", document)
    row = parsed.pop("Contents")[0]
    assert row.pop("LastModified").isoformat().startswith(MODIFIED)
    assert row == {
        "Key": "p/a",
        "ETag": '"abc"',
        "Size": 5,
        "StorageClass": "STANDARD",
        "Owner": {"ID": OWNER.id, "DisplayName": OWNER.display_name},
    }
    assert parsed == {
        "Name": "b", "Prefix": "p", "Marker": "m", "NextMarker": "n", "MaxKeys": 10, "Delimiter": "/",
        "IsTruncated": True, "CommonPrefixes": [{"Prefix": "p/x/"}],
    }  # fmt: skip
    assert order(document) == [
        "Name",
        "Prefix",
        "Marker",
        "NextMarker",
        "MaxKeys",
        "Delimiter",
        "IsTruncated",
        "Contents",
        "CommonPrefixes",
    ]


def test_list_objects_v2():
    entry = ListedObject("a", 0, "abc", MODIFIED_MS, ListedKind(OWNER.id, "GLACIER", "CRC32", "FULL_OBJECT"))
    page = objects_page(
        entries=[entry],
        owners=None,
        common_prefixes=["c"],
        start_after="s",
        continuation_token="",
        next_continuation_token="n",
    )
    parsed = read_back("ListObjectsV2", listings.list_objects_v2(page))
    assert parsed["KeyCount"] == 2
    assert (parsed["StartAfter"], parsed["ContinuationToken"], parsed["NextContinuationToken"]) == (
        "s",
        "",
        "n",
    )
    row = parsed["Contents"][0]
    assert (row["ChecksumAlgorithm"], row["ChecksumType"], row["StorageClass"]) == (
        ["CRC32"],
        "FULL_OBJECT",
        "GLACIER",
    )
    assert "Owner" not in row
    assert "ContinuationToken" not in read_back("ListObjectsV2", listings.list_objects_v2(objects_page()))


AWKWARD = "a b+c%2F/é😀&<>\"'*~\r\n"


@pytest.mark.parametrize(
    ("operation", "write"),
    [("ListObjects", listings.list_objects), ("ListObjectsV2", listings.list_objects_v2)],
)
@pytest.mark.parametrize("encoding_type", ["", "url"])
@pytest.mark.parametrize("key", ["plain/key", AWKWARD, "\x01\x7f"])
def test_keys_survive_listings(operation, write, encoding_type, key):
    if not encoding_type and key == "\x01\x7f":
        pytest.skip("not expressible in XML")
    page = objects_page(
        entries=[ListedObject(key, 1, "e", MODIFIED_MS, ListedKind(OWNER.id, "STANDARD", "", ""))], common_prefixes=[key],
        prefix=key, delimiter=key, marker=key, next_marker=key, start_after=key, encoding_type=encoding_type,
    )  # fmt: skip
    parsed = read_back(operation, write(page))
    if encoding_type:
        decode = (
            botocore.handlers.decode_list_object
            if operation == "ListObjects"
            else botocore.handlers.decode_list_object_v2
        )
        assert parsed["EncodingType"] == "url"
        assert "+" not in parsed["Contents"][0]["Key"]
        decode(parsed, {"encoding_type_auto_set": True})
    if (
        encoding_type and key == "\x01\x7f" and operation == "ListObjects"
    ):  # botocore forgets this one (boto3 issue 3534)
        parsed["Prefix"] = unquote(parsed["Prefix"])
    assert (
        parsed["Contents"][0]["Key"]
        == parsed["CommonPrefixes"][0]["Prefix"]
        == parsed["Prefix"]
        == parsed["Delimiter"]
        == key
    )
    for name in ("Marker", "NextMarker") if operation == "ListObjects" else ("StartAfter",):
        assert parsed[name] == key


@given(st.lists(st.text(max_size=10), max_size=4), st.sampled_from(["", "url"]))
def test_any_keys_make_a_well_formed_page(keys, encoding_type):
    entries = [
        ListedObject(key, 1, "e", MODIFIED_MS, ListedKind(OWNER.id, "STANDARD", "", "")) for key in keys
    ]
    page = objects_page(
        entries=entries, common_prefixes=keys, prefix="".join(keys), encoding_type=encoding_type
    )
    assert len(etree.fromstring(listings.list_objects_v2(page)).findall("{*}Contents")) == len(keys)


def test_list_versions():
    def row(key: str, *, marker: bool) -> ListedVersion:
        return ListedVersion(
            1, key, "v1", True, marker, 5, "abc", MODIFIED_MS, OWNER.id, "STANDARD", "SHA1", "COMPOSITE"
        )

    page = listings.VersionsPage(
        bucket="b", prefix="p q", delimiter="/", max_keys=2, is_truncated=True, entries=[row("k 1", marker=False), row("k2", marker=True)],
        common_prefixes=["c d/"], owners={OWNER.id: OWNER}, encoding_type="url", key_marker="k m", version_id_marker="vm",
        next_key_marker="n m", next_version_id_marker="nv",
    )  # fmt: skip
    document = listings.list_versions(page)
    parsed = read_back("ListObjectVersions", document)
    botocore.handlers.decode_list_object_versions(parsed, {"encoding_type_auto_set": True})
    version, marker = parsed["Versions"][0], parsed["DeleteMarkers"][0]
    assert (version["Key"], version["VersionId"], version["IsLatest"], version["ETag"], version["Size"]) == (
        "k 1",
        "v1",
        True,
        '"abc"',
        5,
    )
    assert (version["ChecksumAlgorithm"], version["ChecksumType"]) == (["SHA1"], "COMPOSITE")
    assert set(marker) == {"Key", "VersionId", "IsLatest", "LastModified", "Owner"}
    assert (parsed["Prefix"], parsed["KeyMarker"], parsed["NextKeyMarker"]) == ("p q", "k m", "n m")
    assert (parsed["VersionIdMarker"], parsed["NextVersionIdMarker"]) == ("vm", "nv")
    assert parsed["CommonPrefixes"] == [{"Prefix": "c d/"}]
    assert order(document)[-3:] == ["Version", "DeleteMarker", "CommonPrefixes"]


UPLOAD = Upload(
    1, "u1", 1, "k", OWNER.id, OWNER.id, MODIFIED_MS, ObjectHead(), Acl(OWNER.id), "CRC32", "COMPOSITE"
)


def test_list_uploads():
    page = listings.UploadsPage(
        bucket="b", prefix="p", delimiter="/", max_uploads=2, is_truncated=True, uploads=[UPLOAD], common_prefixes=["c/"],
        owners={OWNER.id: OWNER}, key_marker="k", upload_id_marker="u", next_key_marker="nk", next_upload_id_marker="nu",
    )  # fmt: skip
    parsed = read_back("ListMultipartUploads", listings.list_uploads(page))
    upload = parsed.pop("Uploads")[0]
    assert upload.pop("Initiated").isoformat().startswith(MODIFIED)
    account = {"ID": OWNER.id, "DisplayName": OWNER.display_name}
    assert upload == {
        "Key": "k", "UploadId": "u1", "Initiator": account, "Owner": account, "StorageClass": "STANDARD",
        "ChecksumAlgorithm": "CRC32", "ChecksumType": "COMPOSITE",
    }  # fmt: skip
    assert parsed == {
        "Bucket": "b", "KeyMarker": "k", "UploadIdMarker": "u", "NextKeyMarker": "nk", "NextUploadIdMarker": "nu", "Delimiter": "/",
        "Prefix": "p", "MaxUploads": 2, "IsTruncated": True, "CommonPrefixes": [{"Prefix": "c/"}],
    }  # fmt: skip


def test_list_parts():
    page = listings.PartsPage(
        bucket="b", key="k", upload=UPLOAD, marker=1, max_parts=2, is_truncated=False,
        parts=[Part(7, 5, "abc", MODIFIED_MS, None, "AAAAAA==")], owner=OWNER, initiator=OWNER,
    )  # fmt: skip
    parsed = read_back("ListParts", listings.list_parts(page))
    row = parsed["Parts"][0]
    assert (row["PartNumber"], row["Size"], row["ETag"], row["ChecksumCRC32"]) == (7, 5, '"abc"', "AAAAAA==")
    assert (parsed["PartNumberMarker"], parsed["NextPartNumberMarker"], parsed["MaxParts"]) == (1, 7, 2)
    assert (parsed["ChecksumAlgorithm"], parsed["ChecksumType"], parsed["UploadId"]) == (
        "CRC32",
        "COMPOSITE",
        "u1",
    )
    assert parsed["Owner"] == parsed["Initiator"] == {"ID": OWNER.id, "DisplayName": OWNER.display_name}


def test_multipart_answers():
    parsed = read_back(
        "CreateMultipartUpload", results.initiate_multipart_upload(bucket="b", key=AWKWARD, upload_id="u")
    )
    assert parsed == {"Bucket": "b", "Key": AWKWARD, "UploadId": "u"}
    checksum = Checksum("CRC64NVME", "AAAAAAAAAAA=")
    document = results.complete_multipart_upload(
        bucket="b", key="k", etag="abc-2", location="http://h/b/k?a&b", checksum=checksum
    )
    assert read_back("CompleteMultipartUpload", document) == {
        "Location": "http://h/b/k?a&b", "Bucket": "b", "Key": "k", "ETag": '"abc-2"',
        "ChecksumCRC64NVME": "AAAAAAAAAAA=", "ChecksumType": "FULL_OBJECT",
    }  # fmt: skip


def test_copies():
    checksum = Checksum("SHA256", "x-2", "COMPOSITE")
    parsed = read_back(
        "CopyObject", results.copy_object_result(etag="abc", modified_ms=MODIFIED_MS, checksum=checksum)
    )
    result = parsed["CopyObjectResult"]
    assert (result["ETag"], result["ChecksumSHA256"], result["ChecksumType"]) == ('"abc"', "x-2", "COMPOSITE")
    assert result["LastModified"].isoformat().startswith(MODIFIED)
    document = results.copy_part_result(etag="abc", modified_ms=MODIFIED_MS, algorithm="SHA1", checksum="x")
    assert read_back("UploadPartCopy", document)["CopyPartResult"]["ChecksumSHA1"] == "x"
    bare = results.copy_part_result(etag="abc", modified_ms=MODIFIED_MS)
    assert set(read_back("UploadPartCopy", bare)["CopyPartResult"]) == {"ETag", "LastModified"}


def test_delete_result():
    outcomes = [
        results.DeletedKey("a&b"),
        results.DeletedKey("m", "v1", True, "v1"),
        results.DeleteFailure("f", "v2", "AccessDenied", "no"),
    ]
    assert read_back("DeleteObjects", results.delete_result(outcomes, quiet=False)) == {
        "Deleted": [
            {"Key": "a&b"},
            {"Key": "m", "VersionId": "v1", "DeleteMarker": True, "DeleteMarkerVersionId": "v1"},
        ],
        "Errors": [{"Key": "f", "VersionId": "v2", "Code": "AccessDenied", "Message": "no"}],
    }
    quiet = read_back("DeleteObjects", results.delete_result(outcomes, quiet=True))
    assert "Deleted" not in quiet
    assert len(quiet["Errors"]) == 1


def test_object_attributes():
    parts = results.AttributeParts(
        total=3,
        marker=1,
        next_marker=2,
        max_parts=1,
        is_truncated=True,
        algorithm="CRC32",
        parts=[Segment(2, 5, None, "e", "AAAAAA==")],
    )
    document = results.object_attributes(
        etag="abc-3",
        checksum=Checksum("CRC32", "x-3", "COMPOSITE"),
        parts=parts,
        storage_class="STANDARD",
        size=15,
    )
    assert read_back("GetObjectAttributes", document) == {
        "ETag": "abc-3", "Checksum": {"ChecksumCRC32": "x-3", "ChecksumType": "COMPOSITE"}, "StorageClass": "STANDARD", "ObjectSize": 15,
        "ObjectParts": {
            "TotalPartsCount": 3, "PartNumberMarker": 1, "NextPartNumberMarker": 2, "MaxParts": 1, "IsTruncated": True,
            "Parts": [{"PartNumber": 2, "Size": 5, "ChecksumCRC32": "AAAAAA=="}],
        },
    }  # fmt: skip
    assert read_back("GetObjectAttributes", results.object_attributes(size=0)) == {"ObjectSize": 0}


def test_subresources():
    assert etree.fromstring(results.location_constraint("eu-west-1")).text == "eu-west-1"
    assert etree.fromstring(results.location_constraint("")).text is None
    assert read_back("GetBucketVersioning", results.versioning_configuration("Enabled")) == {
        "Status": "Enabled"
    }
    assert read_back("GetBucketVersioning", results.versioning_configuration("")) == {}
    tags = results.tagging((("a", "1"), ("b&", "")))
    assert read_back("GetObjectTagging", tags) == {
        "TagSet": [{"Key": "a", "Value": "1"}, {"Key": "b&", "Value": ""}]
    }
    constant = results.constant("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>")
    assert read_back("GetBucketRequestPayment", constant) == {"Payer": "BucketOwner"}


def test_access_control_policy():
    acl = Acl(
        OWNER.id,
        (Grant(OWNER.id, "FULL_CONTROL"), Grant("gone", "READ"), Grant("http://g", "READ", is_group=True)),
    )
    parsed = read_back("GetBucketAcl", results.access_control_policy(acl, accounts={OWNER.id: OWNER}))
    assert parsed["Owner"] == {"ID": OWNER.id, "DisplayName": OWNER.display_name}
    assert parsed["Grants"] == [
        {
            "Grantee": {"ID": OWNER.id, "DisplayName": OWNER.display_name, "Type": "CanonicalUser"},
            "Permission": "FULL_CONTROL",
        },
        {"Grantee": {"ID": "gone", "DisplayName": "", "Type": "CanonicalUser"}, "Permission": "READ"},
        {"Grantee": {"URI": "http://g", "Type": "Group"}, "Permission": "READ"},
    ]


def test_post_response_and_error_have_no_namespace():
    post = etree.fromstring(results.post_response(location="http://h/b/k", bucket="b", key="k", etag="abc"))
    assert post.tag == "PostResponse"
    assert [child.text for child in post] == ["http://h/b/k", "b", "k", '"abc"']
    document = results.error(
        code="NoSuchKey", message="<no>", resource="/b/k", request_id="r", host_id="h", details={"Key": "k&"}
    )
    error = etree.fromstring(document)
    assert error.tag == "Error"
    assert [(child.tag, child.text) for child in error] == [
        ("Code", "NoSuchKey"), ("Message", "<no>"), ("Key", "k&"), ("Resource", "/b/k"), ("RequestId", "r"), ("HostId", "h"),
    ]  # fmt: skip


@given(st.integers(0, 4_102_444_800_000))
def test_dates_of_rows_are_iso8601(epoch_ms):
    assert elements.date(epoch_ms) == iso8601(epoch_ms)
