"""Values of a TOML table and of the environment as the fields of frozen dataclasses; knows no setting by name."""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def build(
    kind: type[T],
    document: dict[str, Any],
    variables: dict[str, str],
    section: str,
    env_prefix: str,
    faults: list[str],
) -> T:
    """Fill a dataclass from its TOML table and its environment variables, taking those out of ``variables``.

    What is wrong (unknown names, values of another type, beyond the ``choices`` of a field's metadata, or
    negative) joins ``faults``, a line each, and leaves the default.
    """
    hints = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for item in fields(kind):  # type: ignore[arg-type]  # every T here is a dataclass
        hint = hints[item.name]
        if isinstance(hint, type) and is_dataclass(hint):
            table = document.pop(item.name, {})
            if not isinstance(table, dict):
                faults.append(f"{item.name}: is a section, not a value")
                table = {}
            values[item.name] = build(
                hint, dict(table), variables, f"{item.name}.", f"{env_prefix}{item.name.upper()}_", faults
            )
            continue
        name, raw = f"{section}{item.name}", document.pop(item.name, None)
        variable = f"{env_prefix}{item.name.upper()}"
        if variable in variables:
            name, raw = variable, variables.pop(variable)
        if raw is None:
            continue
        try:
            value = convert(raw, hint)
            choices = item.metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(f"must be one of {', '.join(choices)}")
            if isinstance(value, int | float) and value < 0:
                raise ValueError("must not be negative")
            values[item.name] = value
        except ValueError as error:
            faults.append(f"{name} = {raw!r}: {error}")
    faults += [f"{section}{name}: no such setting" for name in document]
    return kind(**values)


def convert(raw: Any, hint: Any) -> Any:
    """A TOML value or an environment string as the field's type. Raises ValueError."""
    if hint == tuple[str, str]:
        name, mark, value = str(raw).partition("=")
        if not mark:
            raise ValueError("must be NAME=VALUE")
        return name.strip(), value.strip()
    if isinstance(hint, types.GenericAlias):  # tuple[str, ...] and its like
        if isinstance(raw, dict) and hint.__args__[0] == tuple[str, str]:
            raw = [f"{name}={value}" for name, value in raw.items()]
        entries = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
        if not isinstance(entries, list):
            raise ValueError("must be a list")
        member = hint.__args__[0]
        return tuple(convert(entry, member) for entry in entries if entry != "")
    if hint is bool:
        if isinstance(raw, bool):
            return raw
        words = {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }
        if isinstance(raw, str) and raw.lower() in words:
            return words[raw.lower()]
        raise ValueError("must be true or false")
    if hint is str:
        if not isinstance(raw, str):
            raise ValueError("must be a string")
        return raw
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError("must be a number")
    try:
        return hint(raw)
    except ValueError:
        raise ValueError("must be a number") from None
