import numpy as np

from ecgscale import rng


def test_a_stream_depends_on_its_path_only() -> None:
    a = rng.generator(0, "batch", 3).random(5)
    rng.generator(0, "other").random(100)
    assert np.array_equal(a, rng.generator(0, "batch", 3).random(5))


def test_seed_path_order_and_type_all_count() -> None:
    keys = {rng.key(0, "a", 1), rng.key(1, "a", 1), rng.key(0, 1, "a"), rng.key(0, "a", "1"), rng.key(0, "a1")}
    assert len(keys) == 5


def test_the_first_numbers_are_pinned() -> None:
    assert rng.seed_of(0, "init") == 6612693350221058047
    assert np.allclose(rng.generator(7, "x").random(2), [0.43658331, 0.84317915])
