from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from s3lite.callback.send import CallbackSender
from s3lite.callback.signing import CallbackKeys
from s3lite.settings import CallbackSettings


@pytest.fixture(scope="session")
def keys() -> CallbackKeys:
    return CallbackKeys.generate()


@pytest.fixture
def make_sender(keys: CallbackKeys) -> Iterator[Callable[..., CallbackSender]]:
    """A factory of senders that may reach 127.0.0.1; keywords go to the settings, but for the sender's own."""
    made: list[CallbackSender] = []

    def make(**options: Any) -> CallbackSender:
        own = {name: options.pop(name) for name in ("resolver", "own_listeners", "on_log") if name in options}
        options.setdefault("allow", ("127.0.0.0/8",))
        sender = CallbackSender(CallbackSettings(**options), keys=keys, **own)
        made.append(sender)
        return sender

    yield make
    for sender in made:
        sender.close()
