"""Uploads with a callback through an unmodified boto3: put_object, and upload_file for any size.

    AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python examples/upload.py BUCKET FILE

AWS_ENDPOINT_URL (http://127.0.0.1:8000) is the server, CALLBACK_URL (http://127.0.0.1:9000/uploaded)
the application that it tells.
"""

import base64
import json
import os
import sys
from pathlib import Path

import boto3


def encode(document):
    """Callbacks travel as Base64 of JSON."""
    return base64.b64encode(json.dumps(document).encode()).decode()


def metadata(url, **variables):
    """A callback for ``Metadata``; s3lite takes it out again, so it is never stored."""
    callback = {
        "callbackUrl": url,
        "callbackBody": '{"key":${object},"size":${size},"etag":${etag},"user":${x:user}}',
        "callbackBodyType": "application/json",
        # boto3 expects S3's own answer, so the application's comes in a header (see `reported`).
        "callbackReply": "standard",
    }
    return {"callback": encode(callback), "callback-var": encode({f"x:{k}": v for k, v in variables.items()})}


def reported(headers):
    """What the application answered; an exception when it could not be told."""
    if headers["x-s3lite-callback-status"] != "ok":
        raise RuntimeError(headers["x-s3lite-callback-message"])
    return json.loads(base64.b64decode(headers["x-s3lite-callback-body"]))


if __name__ == "__main__":
    bucket, path = sys.argv[1], Path(sys.argv[2])
    url = os.environ.get("CALLBACK_URL", "http://127.0.0.1:9000/uploaded")
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:8000")
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION", "us-east-1"))

    stored = s3.put_object(
        Bucket=bucket, Key=path.name, Body=path.read_bytes(), Metadata=metadata(url, user="42")
    )
    print("put_object: the application answered", reported(stored["ResponseMetadata"]["HTTPHeaders"]))

    # upload_file switches to a multipart upload for large files; the callback comes with either.
    s3.upload_file(path, bucket, f"copy/{path.name}", ExtraArgs={"Metadata": metadata(url, user="42")})
    print(f"upload_file: stored copy/{path.name}, its callback was sent, too")
