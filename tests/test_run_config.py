"""Overrides that the configuration does not know."""

import pytest

from scripts.run_config import running_config, unknown_override_keys

DECLARED = {"retain_fraction": 0.1, "network": {"_target_": "VarNet"}, "train": {"trainer": {}}}


@pytest.mark.parametrize(
    "key", ["retain_fraction", "network", "network#chans", "network::chans", "train#trainer", "train#trainer#amp"]
)
def test_known(key):
    unknown_override_keys(DECLARED, {key})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("retain_fracton", "override key 'retain_fracton': not in the configuration; did you mean 'retain_fraction'?"),
        ("netwrok#chans", "did you mean 'network'"),
        ("train#trianer#amp", "override key 'train#trianer#amp': not in the configuration"),
        ("xyz", "expected one of retain_fraction, network, train"),
    ],
)
def test_unknown(key, message):
    with pytest.raises(ValueError, match=message):
        unknown_override_keys(DECLARED, {key})


def test_outside_a_bundle():
    with pytest.raises(RuntimeError, match="no bundle is being run"):
        running_config()
