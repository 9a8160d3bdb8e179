"""Results are kept for a vector as long as it lives, and only if it cannot be written to."""

import numpy as np

from gradhooks.backends.common import flat as flat_vectors


def read_only(array):
    array.flags.writeable = False
    return array


def test_results_are_kept_as_long_as_the_array_lives():
    ended = []
    cache = flat_vectors.Cache(lambda: ended.append(True))
    flat, other = read_only(np.arange(3.0)), read_only(np.ones(3))
    result = cache.get(flat, "list", flat.tolist)
    assert cache.get(flat, "list", lambda: "computed again") is result
    assert cache.get(flat, "sum", flat.sum) == 3.0
    assert cache.get(other, "list", other.tolist) == [1.0] * 3
    assert cache.get(flat, "list", flat.tolist) == result
    assert len(cache) == 1
    assert not ended
    del flat
    assert len(cache) == 0
    assert ended


def test_nothing_is_kept_of_an_array_that_can_be_written_to():
    cache, flat = flat_vectors.Cache(), np.arange(3.0)
    cache.get(flat, "list", flat.tolist)
    flat[1] = -1.0
    assert cache.get(flat, "list", flat.tolist) == [0.0, -1.0, 2.0]


def test_parts_are_views():
    flat = np.arange(11.0)
    parts = flat_vectors.split(flat, [(2, 3), (), (0, 4), (4,)])
    assert [part.shape for part in parts] == [(2, 3), (), (0, 4), (4,)]
    assert all(part.base is flat for part in parts)
