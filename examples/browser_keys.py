"""Hand a browser keys that upload to one place for a quarter of an hour: temporary credentials.

    AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python examples/browser_keys.py BUCKET [PORT]

The page (browser_keys.html) asks /keys for credentials, and uploads with them straight to the server. Your
application would see who asks, and choose the prefix accordingly. The bucket must let the page in by CORS;
this script does that first. AWS_ENDPOINT_URL (http://127.0.0.1:8000) is the server.
"""

import json
import os
import sys
import uuid
from pathlib import Path
from wsgiref.simple_server import make_server

import boto3

ENDPOINT = os.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:8000")
PAGE = Path(__file__).with_name("browser_keys.html").read_bytes()


def keys_for(user, bucket):
    """Credentials that may store objects below users/USER/ and do nothing else."""
    prefix = f"users/{user}/"
    allow = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/{prefix}*"}
    made = boto3.client("sts", endpoint_url=ENDPOINT, region_name="us-east-1").assume_role(
        RoleArn="arn:aws:iam::any:role/browser-upload",
        RoleSessionName=user,
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}),
        DurationSeconds=900,
    )["Credentials"]
    made["Expiration"] = made["Expiration"].isoformat()
    return {"endpoint": ENDPOINT, "bucket": bucket, "prefix": prefix, **made}


def application(environ, start_response):
    """The page, and the keys for it."""
    if environ["PATH_INFO"] == "/keys":
        body, kind = json.dumps(keys_for(uuid.uuid4().hex, sys.argv[1])).encode(), "application/json"
    else:
        body, kind = PAGE, "text/html; charset=utf-8"
    start_response("200 OK", [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [body]


if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 9001
    page = f"http://127.0.0.1:{port}"
    rule = {"AllowedOrigins": [page], "AllowedMethods": ["PUT"], "AllowedHeaders": ["*"]}
    s3 = boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1")
    s3.put_bucket_cors(Bucket=sys.argv[1], CORSConfiguration={"CORSRules": [rule]})
    with make_server("127.0.0.1", port, application) as server:
        print(f"open {page}", flush=True)
        server.serve_forever()
