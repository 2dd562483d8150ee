# s3lite in a container: docs/operations.md, "Docker". S3LITE_ACCESS_KEY and S3LITE_SECRET_KEY must be
# given: it listens on all addresses, and does not start there with a credential that nobody chose.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_REQUIRE_HASHES=1
COPY requirements.txt /src/
COPY supply /src/supply
# The tools that make the bill of materials are no part of what it tells.
RUN python -m venv /tools && /tools/bin/pip install -r /src/supply/tools.txt \
    && python -m venv --without-pip /venv && /tools/bin/pip --python /venv/bin/python install -r /src/requirements.txt
COPY pyproject.toml /src/
COPY s3lite /src/s3lite
RUN /tools/bin/python /src/supply/sbom.py /tools/bin/cyclonedx-py /venv/bin/python /s3lite.cdx.json

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin s3lite \
    && install -d -m 700 -o s3lite -g s3lite /data
COPY --from=build /venv /venv
COPY --from=build /s3lite.cdx.json /usr/share/doc/s3lite/s3lite.cdx.json
WORKDIR /app
COPY LICENSE wsgi.py ./
COPY conf conf
COPY s3lite s3lite

ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    S3LITE_BIND=0.0.0.0:8000 \
    S3LITE_DATA_DIR=/data
USER 10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['S3LITE_BIND'].rpartition(':')[2] + '/.s3lite/health', timeout=4)"]
# Exec form: gunicorn is process 1 and gets SIGTERM, which lets requests in progress end.
CMD ["gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi"]
