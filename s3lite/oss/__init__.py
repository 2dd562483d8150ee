"""The dialect of Alibaba Cloud OSS, translated at the border: its SDKs work, the server stays S3's.

`s3lite.auth.oss` recognises and authenticates a request of the dialect, `translate` makes the S3 request
of it that everything behind works on, and `rewrite` turns the answer back.
"""

from s3lite.oss.answer import About, rewrite
from s3lite.oss.request import may_be_unlisted, translate, translate_fields

__all__ = ["About", "may_be_unlisted", "rewrite", "translate", "translate_fields"]
