"""What docs say of the code is what the code is."""

from __future__ import annotations

import rooms


def test_the_tree_in_the_design_is_that_of_the_package():
    assert rooms.read() == rooms.tree(), "run: python tests/rooms.py"
