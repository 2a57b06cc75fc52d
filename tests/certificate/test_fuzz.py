"""Whatever stands in a certificate, ``verify`` ends soon, with findings or one line."""

import contextlib
import copy
import json
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.certificate.verify import verify_certificate

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(node: object, path: tuple = ()) -> Iterator[tuple]:
    """The place of every value within a JSON document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@settings(max_examples=150, deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere(forger, data):
    changed = copy.deepcopy(forger.statement)
    every = list(places(changed))
    for _ in range(data.draw(st.integers(1, 3))):
        *parents, last = data.draw(st.sampled_from(every))
        node = changed
        try:
            for key in parents:
                node = node[key]
            node[last] = data.draw(JSON)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took its place away
    path = forger.folder / "fuzzed.json"
    path.write_text(json.dumps(changed))
    with contextlib.suppress(ValueError, FileNotFoundError):  # one line, before anything is computed
        assert verify_certificate(path)
