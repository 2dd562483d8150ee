"""An application that is told of uploads: verifies each callback and answers with JSON.

    WEBHOOK_SECRET=$(python -m s3lite key webhook-secret ACCESS_KEY) python examples/app.py

It listens on 127.0.0.1:9000, or on the port given as argument. In an application of your own, put a
copy of s3lite/callback/verify.py, which imports nothing of s3lite, in the place of this import.
"""

import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qsl
from wsgiref.simple_server import make_server

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run from a checkout

from s3lite.callback.verify import CallbackGuard

answers = {}  # webhook-id -> what was answered; a real application keeps it in its database


def application(environ, start_response):
    """Behind `CallbackGuard`: what arrives here has a signature that fits."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    webhook_id = environ["s3lite.callback_id"]
    if webhook_id not in answers:  # the same id comes again when a delivery is repeated
        if environ["CONTENT_TYPE"] == "application/json":
            upload = json.loads(body)
        else:
            upload = dict(parse_qsl(body.decode(), keep_blank_values=True))
        print("uploaded:", upload, flush=True)
        answers[webhook_id] = json.dumps({"accepted": True, "number": len(answers) + 1} | upload).encode()
    answer = answers[webhook_id]
    # 200 and JSON, nothing else: with the reply "passthrough" that is what makes a callback succeed.
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


if __name__ == "__main__":
    # Two secrets, separated by white space, while one is being replaced.
    guarded = CallbackGuard(application, secrets=os.environ["WEBHOOK_SECRET"].split())
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9000
    with make_server("127.0.0.1", port, guarded) as server:
        print(f"waiting for callbacks on http://127.0.0.1:{port}/", flush=True)
        server.serve_forever()
