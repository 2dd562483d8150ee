"""Fill the generated parts of the documents from the code; ``--check`` fails when one is stale.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``. What is generated is
what would go stale by hand: the operations (from ``s3lite.routes``), the settings and limits (from
``s3lite.settings``), commands, errors, and the files of deploy/ that pages show.

    python docs/generate.py
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click  # noqa: E402

from s3lite.cli.main import cli  # noqa: E402
from s3lite.context import Route  # noqa: E402
from s3lite.errors import Code  # noqa: E402
from s3lite.routes import ROUTES  # noqa: E402
from s3lite.settings import LimitSettings, Settings  # noqa: E402

DOCUMENTS = (
    "README.md",
    "docs/settings.md",
    "docs/compatibility.md",
    "docs/limits.md",
    "docs/commands.md",
    "docs/errors.md",
    "docs/operations.md",
    "docs/scaling.md",
)

# Modules of s3lite/ops in the order and words of the README.
AREAS = {
    "service": "Service",
    "sts": "Temporary credentials (AssumeRole, GetSessionToken, GetCallerIdentity)",
    "bucket": "Buckets",
    "listing": "Listings",
    "object_read": "Reading",
    "object_write": "Writing",
    "multipart": "Multipart uploads",
    "post_object": "Browser forms",
    "object_delete": "Deleting",
    "encryption": "Encryption",
    "tagging": "Tags",
    "acl": "Access control lists",
    "object_annotation": "Annotations",
    "versioning": "Versioning",
    "notification": "Notifications",
    "cors": "CORS, for pages of other origins",
    "website": "Websites",
    "bucket_info": "Of Alibaba Cloud OSS",
    "append": "Appending, as in Alibaba Cloud OSS",
    "request_payment": "Request payment (kept and shown)",
    "probes": "Read as “not configured”",
}
TESTS = {
    "service": "test_bucket",
    "bucket_info": "test_oss",
}  # where the module of tests is not called like that of the code

# What a client is told that goes beyond a limit ("" where it is not refused), a remark, and the test of its edge.
REFUSALS: dict[str, tuple[str, str, str]] = {
    "object_bytes": (
        "EntityTooLarge",
        "of CompleteMultipartUpload",
        "ops/test_limits::test_the_size_of_a_part_and_of_what_parts_make",
    ),
    "put_bytes": (
        "EntityTooLarge",
        "before the body is asked for, where its length is announced",
        "ops/test_limits::test_the_size_of_a_put",
    ),
    "part_min_bytes": (
        "EntityTooSmall",
        "of CompleteMultipartUpload; not for the last part",
        "ops/test_multipart::test_complete_refuses_small_parts_but_the_last",
    ),
    "parts": (
        "InvalidArgument",
        "part numbers run from 1 to this",
        "ops/test_limits::test_the_numbers_of_parts",
    ),
    "appends": ("InvalidRequest", "of AppendObject", "ops/test_append::test_limits_at_their_edge"),
    "uploads": (
        "InvalidRequest",
        "of CreateMultipartUpload; uploads that are started at once may go beyond",
        "ops/test_limits::test_the_number_of_open_uploads",
    ),
    "metadata_bytes": (
        "MetadataTooLarge",
        "callbacks do not count",
        "ops/test_limits::test_the_size_of_metadata",
    ),
    "annotations": ("AnnotationLimitExceeded", "", "ops/test_object_annotation::test_limits_at_their_edge"),
    "annotation_bytes": ("EntityTooLarge", "", "ops/test_object_annotation::test_limits_at_their_edge"),
    "xml_bytes": ("EntityTooLarge", "", "ops/test_limits::test_the_size_of_a_document"),
    "form_fields": ("MaxPostPreDataLengthExceededError", "", "unit/wire/test_form::test_what_is_refused"),
    "form_field_bytes": (
        "MaxPostPreDataLengthExceededError",
        "",
        "unit/wire/test_form::test_what_is_refused",
    ),
    "form_fields_bytes": (
        "MaxPostPreDataLengthExceededError",
        "",
        "unit/wire/test_form::test_what_is_refused",
    ),
    "buckets_per_account": ("TooManyBuckets", "", "ops/test_limits::test_the_buckets_of_an_account"),
    "delete_keys": ("MalformedXML", "", "ops/test_limits::test_the_keys_of_one_delete"),
    "notification_rules": (
        "InvalidArgument",
        "",
        "ops/test_notification::test_a_bucket_takes_as_many_rules_as_the_settings_say",
    ),
    "key_requests_per_s": (
        "SlowDown",
        "with Retry-After; a key may have [its own](access.md#request-rates)",
        "ops/test_rates::test_too_many_requests_are_told_to_slow_down",
    ),
    "key_burst": (
        "SlowDown",
        "with Retry-After",
        "unit/auth/test_rates::test_never_more_than_burst_and_rate",
    ),
    "key_throughput": (
        "SlowDown",
        "of the next request, with Retry-After",
        "ops/test_rates::test_bytes_both_ways_are_charged",
    ),
    "list_keys": (
        "",
        "more are given out page by page, as in S3",
        "ops/test_limits::test_the_entries_of_a_page",
    ),
}


# ---------------------------------------------------------------- operations


def _module(route: Route) -> str:
    """The module of ``s3lite/ops`` that answers an operation."""
    assert route.handler is not None
    return route.handler.__module__.rpartition(".")[2]


def operations() -> str:
    """For the README: what is offered, by area, what can only be read, and what is refused by name."""
    lines = ["| Area | Operations |", "|---|---|"]
    modules = {_module(route) for route in ROUTES if route.handler is not None}
    others = {module: module.replace("_", " ").capitalize() for module in sorted(modules - set(AREAS))}
    areas = AREAS | others
    for module in sorted(areas, key=lambda module: (module == "probes", list(areas).index(module))):
        names = [
            route.operation for route in ROUTES if route.handler is not None and _module(route) == module
        ]
        lines.append(f"| {areas[module]} | {', '.join(names)} |")
    refused = sum(route.handler is None for route in ROUTES)
    lines += [
        "",
        f"{refused} more are known and answered 501 `NotImplemented` by name, so that none is taken for another.",
    ]
    return "\n".join(lines)


def compatibility() -> str:
    """Every operation: what it answers, what the caller needs, its limits, how it differs, which tests show it."""
    lines = [
        "| Operation | Answer | Needs | Limits and errors | Differs | Shown by |",
        "|---|---|---|---|---|---|",
    ]
    for route in sorted(ROUTES, key=lambda route: (route.handler is None, route.operation)):
        errors = differs = ""
        if route.handler is None:
            answer, test = "501", "tests/ops/test_probes.py"
        else:
            module = _module(route)
            answer = "not configured" if module == "probes" else "offered"
            test = f"tests/ops/{TESTS.get(module, 'test_' + module)}.py"
            document = inspect.getdoc(route.handler) or ""
            errors, differs = _section(document, "Errors"), _section(document, "Differs")
        link = f"[{Path(test).stem}](../{test})"
        lines.append(
            f"| {route.operation} | {answer} | `{route.permission}` | {errors} | {differs} | {link} |"
        )
    return "\n".join(lines)


def _section(docstring: str, name: str) -> str:
    """What a handler's docstring says after ``Errors:`` or ``Differs:``, to the end of its paragraph, as Markdown."""
    found = re.search(
        rf"\b{name}[^:\n]{{0,20}}: (.*?)(?=\n\n|\b(?:Source|Errors|Differs)\b[^:\n]{{0,20}}: |\Z)",
        docstring,
        re.DOTALL,
    )
    if found is None:
        return ""
    text = " ".join(found[1].split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    text = re.sub(r"``([^`]*)``", lambda code: f"`{code[1]}`".replace("\\*", "*").replace("&lt;", "<"), text)
    return text.removesuffix(".")


# ---------------------------------------------------------------- settings


def _sections() -> Iterator[tuple[str, Any]]:
    default = Settings()
    yield "", default
    for item in fields(Settings):
        value = getattr(default, item.name)
        if is_dataclass(value):
            yield item.name, value


def _shown(value: object) -> str:
    """A default as it stands in the TOML file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return "[]" if value == () else str(value)


def settings() -> str:
    """A table for each section."""
    lines: list[str] = []
    for section, values in _sections():
        if section:
            lines += ["", f"## [{section}]", "", (type(values).__doc__ or "").strip(), ""]
        else:
            lines += ["## Outside sections", ""]
        lines += ["| Name | In the environment | Default | Meaning |", "|---|---|---|---|"]
        for item in fields(values):
            value = getattr(values, item.name)
            if is_dataclass(value):
                continue
            name = "_".join(filter(None, ("S3LITE", section.upper(), item.name.upper())))
            meaning = item.metadata["help"].replace("|", "\\|").replace("*.", "\\*.")
            if item.metadata["choices"]:
                meaning += "; one of " + ", ".join(f"`{choice}`" for choice in item.metadata["choices"])
            lines.append(f"| `{item.name}` | `{name}` | `{_shown(value)}` | {meaning} |")
    return "\n".join(lines)


def limits() -> str:
    """The section [limits] with the error that each leads to."""
    lines = ["| Setting | Default | What it bounds | Beyond it | Shown by |", "|---|---|---|---|---|"]
    for item in fields(LimitSettings):
        code, remark, test = REFUSALS[item.name]
        beyond = f"{Code[code].status} `{code}`" if code else ""
        beyond += ("; " if beyond and remark else "") + remark
        default = _size(item.default) if item.name.endswith("_bytes") else f"{item.default:,}"
        lines.append(f"| `limits.{item.name}` | {default} | {item.metadata['help']} | {beyond} | `{test}` |")
    return "\n".join(lines)


def _size(count: int) -> str:
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size and not count % size:
            return f"{count // size} {unit}"
    return f"{count:,} bytes"


# ---------------------------------------------------------------- commands and errors


def shipped(name: str, language: str) -> str:
    """A file of deploy/, as it is there."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    return f"```{language}\n{text}```"


def commands() -> str:
    """Every command: what its parser says of it."""
    return "\n".join(_command(cli, "s3lite", None))


def _command(command: click.Command, path: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=path, parent=parent)
    name = context.command_path
    if not (isinstance(command, click.Group) and parent is None):
        yield from ("", f"## {name}", "")
    if not isinstance(command, click.Group):
        arguments = " ".join(piece for piece in command.collect_usage_pieces(context))
        yield from (f"`{name} {arguments}`", "")
    yield from _prose(inspect.cleandoc(command.help or ""))
    options = [item for item in command.params if isinstance(item, click.Option) and item.help]
    shared = {"--json", "--config", "--version"}
    rows = [item for item in options if not shared & set(item.opts)] if parent else options
    if rows:
        yield from ("", "| Option | |", "|---|---|")
    for item in rows:
        spelt = ", ".join(f"`{each}`" for each in (*item.opts, *item.secondary_opts))
        meta = "" if item.is_flag else f" `{item.make_metavar(context)}`"
        yield f"| {spelt}{meta} | {_cell(item.help or '')} |"
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None
            yield from _command(inner, word, context)


def _prose(text: str) -> Iterator[str]:
    """A docstring of click's: paragraphs, and after ``\\b`` lines that stand as they are."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```text", paragraph.removeprefix("\b\n"), "```", "")
        else:
            yield from (_cell(" ".join(paragraph.split())), "")


def _cell(text: str) -> str:
    text = text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
    return re.sub(
        r"(?<![\w`-])(--[a-z][\w-]*|[\w./]+\.(?:toml|json|html|md)|S3LITE_\w+)(?![\w`])", r"`\1`", text
    )


def errors() -> str:
    """Every code that a client can be answered with."""
    lines = ["| Code | Status | Message |", "|---|---|---|"]
    lines += [f"| `{code.name}` | {code.value.status} | {_cell(code.value.message)} |" for code in Code]
    return "\n".join(lines)


# ---------------------------------------------------------------- the documents

PARTS: dict[str, Callable[[], str]] = {
    "operations": operations,
    "compatibility": compatibility,
    "settings": settings,
    "limits": limits,
    "commands": commands,
    "nginx": partial(shipped, "nginx.conf", "nginx"),
    "caddy": partial(shipped, "Caddyfile", "caddy"),
    "haproxy": partial(shipped, "haproxy.cfg", "haproxy"),
    "unit": partial(shipped, "s3lite.service", "ini"),
    "node_unit": partial(shipped, "node.conf", "ini"),
    "compose": partial(shipped, "compose.yaml", "yaml"),
    "compose_nodes": partial(shipped, "compose-nodes.yaml", "yaml"),
    "errors": errors,
}
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def filled(text: str) -> str:
    """A document with its generated parts as they should be."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", text)


def main() -> int:
    """Write, or with ``--check`` compare."""
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        wanted = filled(text)
        if text != wanted:
            stale.append(name)
            if "--check" not in sys.argv[1:]:
                path.write_text(wanted, encoding="utf-8")
    if stale:
        sys.stdout.write(("stale: " if "--check" in sys.argv[1:] else "written: ") + ", ".join(stale) + "\n")
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
