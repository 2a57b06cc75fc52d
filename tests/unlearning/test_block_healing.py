"""Healing block by block: each block's target, what stays, and the cost."""

import copy

import pytest
import torch

from scripts.networks import VarNet
from scripts.training import PassCounter
from scripts.unlearning import BlockHealing, NoTraining, Original, Perturb
from tests.helpers import Scale, sample, trainer
from tests.unlearning.columns import Fixed

RETAIN = sample(value=1.0, target=3.0, forget=False)


def chain(*weights: float) -> torch.nn.Sequential:
    return torch.nn.Sequential(*(Scale(weight) for weight in weights))


def weights(network: torch.nn.Module) -> list[float]:
    return [weight.item() for weight in network.parameters()]


def test_each_block_sees_the_teachers_input_and_learns_its_output():
    """Teacher 2·3·x: the second block learns 2x -> 6x, whatever the first one is; the third stays."""
    network = chain(1.0, 5.0, 7.0)
    handlers = [BlockHealing(Fixed(chain(2.0, 3.0, 1.0)), [RETAIN], 1, ["[01]"], learning_rate=0.25), NoTraining()]
    trainer(network, [RETAIN], handlers).run()
    # one step of Adam is the learning rate towards the target
    assert weights(network) == pytest.approx([1.25, 4.75, 7.0], rel=1e-4)


def test_all_blocks_reach_the_teacher_within_a_few_steps():
    network, teacher = chain(1.0, 5.0), chain(2.0, 3.0)
    trainer(network, [RETAIN], [BlockHealing(Fixed(teacher), [RETAIN], 200, ["?"], 0.1), NoTraining()]).run()
    assert weights(network) == pytest.approx([2.0, 3.0], abs=0.05)


def test_reset_cascades_of_a_varnet_come_back_to_the_original_and_nothing_else_moves():
    torch.manual_seed(0)
    network, fresh = (VarNet(num_cascades=2, chans=2, pools=2, sens_chans=2, sens_pools=2) for _ in range(2))
    before = copy.deepcopy(network)
    batch = {"kspace": torch.randn(1, 2, 32, 32, 2), "target": torch.rand(1, 1, 32, 32), "max_value": torch.ones(1)}
    batch["kspace"][:, :, :, 1:12:2] = 0
    original = Original()
    counter = PassCounter(network)
    heal = BlockHealing(original, [batch], 60, learning_rate=0.02, counter=counter)

    def split(batch, device=None, non_blocking=False, **kwargs):
        return batch["kspace"], batch, (), {}

    def distance() -> float:
        with torch.no_grad():
            return float((network(batch["kspace"]) - before(batch["kspace"])).norm())

    perturb = Perturb(fresh, {"*.dc_weight": 0.0, "cascades.*": 1.0})
    trainer(network, [batch], [original, perturb, NoTraining()], prepare_batch=split).run()
    far = distance()
    network.load_state_dict(before.state_dict())
    trainer(network, [batch], [counter, original, perturb, heal, NoTraining()], prepare_batch=split).run()
    assert distance() < 0.7 * far
    assert all(
        torch.equal(a, b) for a, b in zip(network.sens_net.parameters(), before.sens_net.parameters(), strict=True)
    )
    assert [cascade.dc_weight.item() for cascade in network.cascades] == [1.0, 1.0]
    assert counter.backward == 60
    assert not original.network._forward_hooks


def test_arguments():
    with pytest.raises(ValueError, match="'steps': expected above 0, found 0"):
        BlockHealing(Fixed(chain(1.0)), [RETAIN], 0)
    with pytest.raises(
        ValueError, match=r"'blocks': expected patterns of Sequential's modules, found 'cascades.\*.model'"
    ):
        trainer(chain(1.0), [RETAIN], [BlockHealing(Fixed(chain(1.0)), [RETAIN], 1)]).run()
