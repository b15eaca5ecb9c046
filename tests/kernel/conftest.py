"""What several tests of one machine's kernel start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.other_user import OtherUser, other_user


@pytest.fixture
def user() -> Iterator[OtherUser]:
    """A user without rights."""
    with other_user() as found:
        yield found
