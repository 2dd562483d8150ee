"""A presigned PUT URL that carries a callback: whoever holds it uploads one object, and you are told.

    AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python examples/presign.py BUCKET KEY
    curl -T photo.jpg "$(python examples/presign.py photos photo.jpg)"

The query is part of a V4 signature, so the holder can neither change nor drop the callback. AWS_ENDPOINT_URL
(http://127.0.0.1:8000) is the server, CALLBACK_URL (http://127.0.0.1:9000/uploaded) the application.
"""

import base64
import json
import os
import sys
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def presign(endpoint, bucket, key, callback, variables, credentials, *, region="us-east-1", expires_s=900):
    """The URL; valid for ``expires_s`` seconds, for PUT only."""
    query = {
        "callback": base64.b64encode(json.dumps(callback).encode()).decode(),
        "callback-var": base64.b64encode(json.dumps(variables).encode()).decode(),
    }
    url = f"{endpoint}/{bucket}/{quote(key)}?{urlencode(query)}"
    request = AWSRequest("PUT", url)
    S3SigV4QueryAuth(credentials, "s3", region, expires=expires_s).add_auth(request)
    return request.url


if __name__ == "__main__":
    print(
        presign(
            os.environ.get("AWS_ENDPOINT_URL", "http://127.0.0.1:8000"),
            sys.argv[1],
            sys.argv[2],
            {
                "callbackUrl": os.environ.get("CALLBACK_URL", "http://127.0.0.1:9000/uploaded"),
                "callbackBody": "key=${object}&size=${size}&type=${mimeType}&user=${x:user}",
            },
            {"x:user": "42"},
            Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
            region=os.environ.get("AWS_REGION", "us-east-1"),
        )
    )
