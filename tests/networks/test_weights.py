import argparse
import os

import pytest
import torch

from scripts.inference.model_identity import identify_model
from scripts.networks import ReconUnet, Unet, VarNet
from scripts.networks.import_weights import import_weights
from scripts.networks.weights import load_weights, save_weights
from scripts.run.files import file_sha256

ARGUMENTS = {"num_cascades": 2, "sens_chans": 2, "sens_pools": 1, "chans": 3, "pools": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return VarNet(**ARGUMENTS)


def other() -> VarNet:
    torch.manual_seed(1)
    return VarNet(**ARGUMENTS)


def assert_same(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    torch.testing.assert_close(dict(found.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)


def lightning(network: torch.nn.Module, prefix: str) -> dict:
    """A checkpoint such as fastMRI's Lightning modules write."""
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    extras = {
        "loss.w": torch.ones(1, 1, 7, 7),
        "NMSE.quantity": torch.zeros(()),
        "TotExamples.quantity": torch.ones(()),
    }
    return {"state_dict": state | extras, "epoch": 49, "hyper_parameters": {"lr": 1e-3}, "optimizer_states": []}


def test_round_trip_writes_one_plain_file(network, tmp_path):
    path = tmp_path / "models" / "original.pt"
    save_weights(network, path)
    assert [file.name for file in path.parent.iterdir()] == ["original.pt"]
    assert set(torch.load(path, weights_only=True)) == set(network.state_dict())
    target = other()
    assert load_weights(target, path) is target
    assert_same(target, network)


def test_equal_weights_give_equal_bytes(network, tmp_path):
    save_weights(network, tmp_path / "a.pt")
    save_weights(torch.nn.DataParallel(network), tmp_path / "b.pt")
    assert file_sha256(tmp_path / "a.pt") == file_sha256(tmp_path / "b.pt")
    save_weights(other(), tmp_path / "b.pt")
    assert file_sha256(tmp_path / "a.pt") != file_sha256(tmp_path / "b.pt")


def test_file_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_failed_write_leaves_the_old_file_alone(network, tmp_path, monkeypatch):
    path = tmp_path / "original.pt"
    path.write_bytes(b"old")

    def fail(state, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_weights(network, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize("prefix", ["", "module.", "varnet.", "module.varnet."])
def test_accepts_state_dict_lightning_and_monai_files(network, tmp_path, prefix):
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    for content in (state, {"model": state, "optimizer": {"state": {}}}, lightning(network, prefix)):
        torch.save(content, tmp_path / "weights.ckpt")
        assert_same(load_weights(torch.nn.DataParallel(other()), tmp_path / "weights.ckpt").module, network)


@pytest.mark.parametrize("prefix", ["", "unet."])
def test_accepts_fastmri_unets(tmp_path, prefix):
    unet, network = Unet(1, 1, chans=2, pools=2), ReconUnet(chans=2, pools=2)
    torch.save(lightning(unet, prefix), tmp_path / "unet.ckpt")
    assert import_weights(tmp_path / "unet.ckpt", tmp_path / "unet.pt") == {"chans": 2, "pools": 2}
    assert_same(load_weights(network, tmp_path / "unet.pt").unet, unet)
    assert_same(load_weights(Unet(1, 1, chans=2, pools=2), tmp_path / "unet.ckpt"), unet)


@pytest.mark.parametrize("prefix", ["", "varnet."])
@pytest.mark.parametrize("given", [True, False])
def test_import_infers_the_arguments(network, tmp_path, prefix, given):
    torch.save(lightning(network, prefix), tmp_path / "knee.ckpt")
    target = tmp_path / "original.pt"
    assert import_weights(tmp_path / "knee.ckpt", target, network=other() if given else None) == ARGUMENTS
    assert torch.load(target, weights_only=True).keys() == network.state_dict().keys()
    assert_same(load_weights(VarNet(**ARGUMENTS), target), network)


def test_keys_that_do_not_fit_are_listed_and_nothing_is_loaded(network, tmp_path):
    state = network.state_dict()
    del state["cascades.0.dc_weight"]
    state["cascades.1.dc_weight"] = torch.ones(2)
    state |= {f"extra.{i:02}": torch.ones(1) for i in range(12)}
    torch.save(state, tmp_path / "bad.pt")
    target = other()
    with pytest.raises(ValueError, match=r"bad\.pt: weights do not fit VarNet") as raised:
        load_weights(target, tmp_path / "bad.pt")
    message = str(raised.value)
    assert "1 missing: cascades.0.dc_weight;" in message
    assert "12 unexpected: extra.00, " in message
    assert "extra.09, …" in message
    assert "extra.10" not in message
    assert "1 wrong shape: cascades.1.dc_weight (found (2,), expected (1,))" in message
    assert_same(target, other())


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {"a": 1}}, torch.ones(2)])
def test_a_file_without_state_dict_is_refused(network, tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"odd\.pt: holds no state dict"):
        load_weights(network, tmp_path / "odd.pt")


@pytest.mark.parametrize("content", [b"", b"not torch", b"PK\x03\x04 truncated", bytes(range(256))])
def test_a_file_that_is_no_torch_file_is_refused(network, tmp_path, content):
    (tmp_path / "text.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.pt: not a"):
        load_weights(network, tmp_path / "text.pt")


def test_a_file_that_needs_unpickling_is_refused(network, tmp_path):
    torch.save({"state_dict": network.state_dict(), "hparams": argparse.Namespace(lr=1)}, tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match=r"pickled\.pt: .* not unpickled"):
        load_weights(network, tmp_path / "pickled.pt")


def test_a_missing_file_is_named(network, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such weights file"):
        load_weights(network, tmp_path / "none.pt")


def test_import_of_another_network_names_the_file(tmp_path):
    torch.save({"fc.weight": torch.ones(1)}, tmp_path / "resnet.pt")
    with pytest.raises(ValueError, match=r"resnet\.pt: no key ends in .* not the weights of a fastMRI"):
        import_weights(tmp_path / "resnet.pt", tmp_path / "target.pt")
    assert not (tmp_path / "target.pt").exists()


@pytest.mark.parametrize(
    "change",
    [
        torch.Tensor.to_sparse,
        lambda tensor: tensor.to("meta"),
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "quantised"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_that_are_not_dense_are_refused_with_their_file(network, tmp_path, change):
    state = network.state_dict()
    key = next(key for key, value in state.items() if value.ndim == 4)
    torch.save({**state, key: change(state[key])}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=rf"odd\.pt: expected dense tensors with values: 1 .*{key}"):
        load_weights(other(), tmp_path / "odd.pt")


def test_whole_numbers_in_the_place_of_weights_are_refused_with_their_file(network, tmp_path):
    state = network.state_dict()
    key = next(key for key, value in state.items() if value.ndim == 4)
    torch.save({**state, key: state[key].to(torch.int8)}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=rf"odd\.pt: .*1 of another type: {key} \(found torch.int8"):
        load_weights(other(), tmp_path / "odd.pt")


@pytest.mark.parametrize("content", [b"hello world\n", b"\x80\x02garbage", b""])
def test_what_is_no_torch_file_is_refused_in_our_words(network, tmp_path, content):
    (tmp_path / "text.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"text\.pt: not a ") as error:
        load_weights(network, tmp_path / "text.pt")
    assert "\x1b" not in str(error.value)
    assert "weights_only" not in str(error.value)


def test_a_pipe_in_the_place_of_the_record_is_not_waited_for(network, tmp_path):
    save_weights(network, tmp_path / "a.pt")
    os.mkfifo(tmp_path / "a.json")
    assert_same(load_weights(other(), tmp_path / "a.pt"), network)
    assert identify_model("Model", "1.0", tmp_path / "a.pt", tmp_path).role == ""
