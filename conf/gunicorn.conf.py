"""How gunicorn runs s3lite: what the package ships (s3lite/gunicorn_conf.py), and room for changes of yours."""

from s3lite.gunicorn_conf import *
