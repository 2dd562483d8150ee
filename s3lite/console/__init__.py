"""The console: pages under ``/.s3lite/console/`` for people, made of the server's own operations.

Whatever a page shows or does goes through the operations that S3 clients use, as the access key that
signed in (`client.S3`), so the console can do nothing that its user may not. Pages are templates with
a little script for uploads; without script everything but uploads works.
"""
