"""The WSGI entry point: ``gunicorn -c conf/gunicorn.conf.py wsgi``."""

from s3lite.app import create_app

application = create_app()
