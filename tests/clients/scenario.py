"""What each library must manage: run by its own interpreter, with the endpoint in the environment."""

from __future__ import annotations

import os
import sys

ENDPOINT, BUCKET = os.environ["S3_ENDPOINT"], os.environ["S3_BUCKET"]
ACCESS, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
KEY = "folder/a +%ü.bin"
SMALL, LARGE = b"content", os.urandom(11 << 20)  # three parts


def boto3_old() -> None:
    """boto3 1.26, with both of its signatures."""
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    assert boto3.__version__.startswith("1.26.")
    for version in ("s3v4", "s3"):
        s3 = boto3.client(
            "s3",
            endpoint_url=ENDPOINT,
            region_name="us-east-1",
            config=Config(signature_version=version, s3={"addressing_style": "path"}),
        )
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=SMALL, Metadata={"name": "value"})
        got = s3.get_object(Bucket=BUCKET, Key=KEY)
        assert (got["Body"].read(), got["Metadata"]) == (SMALL, {"name": "value"})
        assert [each["Key"] for each in s3.list_objects(Bucket=BUCKET)["Contents"]] == [KEY]
        s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": KEY})
        for key in (KEY, "copy"):
            s3.delete_object(Bucket=BUCKET, Key=key)
        assert "Contents" not in s3.list_objects(Bucket=BUCKET)
        if version == "s3v4":  # with V2 this release signs ?uploads?uploads and ?delete?delete
            with open("large", "wb") as file:
                file.write(LARGE)
            s3.upload_file("large", BUCKET, KEY, Config=TransferConfig(multipart_chunksize=5 << 20))
            s3.download_file(BUCKET, KEY, "back")
            with open("back", "rb") as file:
                assert file.read() == LARGE
            s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": KEY}]})


def minio() -> None:
    """minio-py: signed payloads over plain HTTP."""
    import io

    from minio import Minio
    from minio.commonconfig import CopySource

    client = Minio(
        endpoint=ENDPOINT.removeprefix("http://"), access_key=ACCESS, secret_key=SECRET, secure=False
    )
    assert client.bucket_exists(bucket_name=BUCKET)
    client.put_object(
        bucket_name=BUCKET, object_name=KEY, data=io.BytesIO(LARGE), length=-1, part_size=5 << 20
    )
    answer = client.get_object(bucket_name=BUCKET, object_name=KEY)
    assert answer.read() == LARGE
    answer.release_conn()
    client.copy_object(
        bucket_name=BUCKET, object_name="copy", source=CopySource(bucket_name=BUCKET, object_name=KEY)
    )
    names = [each.object_name for each in client.list_objects(bucket_name=BUCKET, recursive=True)]
    assert names == ["copy", KEY]
    for name in names:
        client.remove_object(bucket_name=BUCKET, object_name=name)


def s3fs() -> None:
    """s3fs under fsspec, on aiobotocore."""
    import s3fs as library

    fs = library.S3FileSystem(key=ACCESS, secret=SECRET, endpoint_url=ENDPOINT)
    with fs.open(f"{BUCKET}/{KEY}", "wb", block_size=5 << 20) as file:
        file.write(LARGE)
    with fs.open(f"{BUCKET}/{KEY}", "rb") as file:
        file.seek(5_000_000)
        assert file.read(1000) == LARGE[5_000_000:5_001_000]
    fs.pipe(f"{BUCKET}/folder/b", SMALL)
    assert fs.ls(f"{BUCKET}/folder") == [f"{BUCKET}/{KEY}", f"{BUCKET}/folder/b"]
    fs.mv(f"{BUCKET}/folder/b", f"{BUCKET}/c")
    assert fs.cat(f"{BUCKET}/c") == SMALL
    fs.rm(f"{BUCKET}/folder", recursive=True)
    assert fs.find(BUCKET) == [f"{BUCKET}/c"]


def aiobotocore() -> None:
    """aiobotocore by itself, several requests at once."""
    import asyncio

    from aiobotocore.session import get_session

    async def work() -> None:
        async with get_session().create_client(
            "s3", endpoint_url=ENDPOINT, region_name="us-east-1"
        ) as client:
            names = [f"{KEY}-{number}" for number in range(8)]
            await asyncio.gather(*(client.put_object(Bucket=BUCKET, Key=name, Body=SMALL) for name in names))
            listed = await client.list_objects_v2(Bucket=BUCKET)
            assert [each["Key"] for each in listed["Contents"]] == names
            got = await client.get_object(Bucket=BUCKET, Key=names[0])
            async with got["Body"] as body:
                assert await body.read() == SMALL
            keys = [{"Key": name} for name in names]
            await client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})

    asyncio.run(work())


def pyarrow() -> None:
    """pyarrow, on the AWS SDK for C++: chunked bodies with trailers."""
    import pyarrow as pa
    import pyarrow.parquet as parquet
    from pyarrow import fs as filesystems

    fs = filesystems.S3FileSystem(
        access_key=ACCESS,
        secret_key=SECRET,
        endpoint_override=ENDPOINT.removeprefix("http://"),
        scheme="http",
        region="us-east-1",
    )
    table = pa.table({"number": list(range(100_000)), "text": [str(each) for each in range(100_000)]})
    parquet.write_table(table, f"{BUCKET}/data/table.parquet", filesystem=fs)
    assert parquet.read_table(f"{BUCKET}/data/table.parquet", filesystem=fs).equals(table)
    with fs.open_output_stream(f"{BUCKET}/{KEY}") as stream:
        stream.write(LARGE)
    with fs.open_input_file(f"{BUCKET}/{KEY}") as file:
        assert file.read() == LARGE
    found = fs.get_file_info(filesystems.FileSelector(BUCKET, recursive=True))
    assert {each.path for each in found if each.is_file} == {
        f"{BUCKET}/data/table.parquet",
        f"{BUCKET}/{KEY}",
    }
    fs.delete_dir_contents(BUCKET)


if __name__ == "__main__":
    {
        "boto3_old": boto3_old,
        "minio": minio,
        "s3fs": s3fs,
        "aiobotocore": aiobotocore,
        "pyarrow": pyarrow,
    }[sys.argv[1]]()
