"""What property tests draw from: times that mean one thing, names that may be given."""

from __future__ import annotations

from hypothesis import strategies as st

from personaplug.core.names import LONGEST_USER, is_name

# UTC seconds from 1653 to 2096. No calendar date ends in two noughts, so none of them reads as one.
TIMES = st.integers(-(10**8), 4 * 10**7).map(lambda n: n * 100.0)

NAMES = st.text(min_size=1, max_size=LONGEST_USER).filter(is_name)
