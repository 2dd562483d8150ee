"""s3lite: an S3-compatible object server whose uploads report back."""

__version__ = "0.1.0"
__all__ = ["__version__", "create_app"]


def __getattr__(name: str) -> object:
    # Lazy, so that `import s3lite` costs nothing and no import cycle can pass through the root.
    if name == "create_app":
        from s3lite.app import create_app

        return create_app
    raise AttributeError(name)
