"""A trainer small enough to compute by hand."""

import torch
from monai.engines import SupervisedTrainer


class Scale(torch.nn.Module):
    """Multiplies by one weight: prediction = w · x."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.weight * image


def squared_error(prediction: torch.Tensor, label: dict) -> torch.Tensor:
    """Per-sample loss (B,)."""
    return (prediction - label["target"]).square().flatten(1).mean(1)


def sample(value: float, target: float, forget: bool, max_value: float = 1.0) -> dict:
    """A batch of one constant 2 x 2 image and its target."""
    image = torch.full((1, 1, 2, 2), value)
    return {
        "image": image,
        "target": torch.full_like(image, target),
        "max_value": torch.tensor([max_value]),
        "forget": torch.tensor([forget]),
        "volume": ["scan"],
    }


def join(*samples: dict) -> dict:
    """One batch of several samples."""
    return {
        key: torch.cat([s[key] for s in samples]) if isinstance(samples[0][key], torch.Tensor) else [
            v for s in samples for v in s[key]
        ]
        for key in samples[0]
    }  # fmt: skip


def split(batch: dict, device=None, non_blocking=False, **kwargs):
    """prepare_batch for these samples."""
    return batch["image"], {k: v for k, v in batch.items() if k != "image"}, (), {}


def trainer(network: torch.nn.Module, loader: list, handlers: list, lr: float = 0.1, epochs: int = 1, **kwargs):
    """MONAI's stock trainer with plain SGD: one step moves the weight by -lr times the gradient."""
    return SupervisedTrainer(
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        train_handlers=handlers,
        **{"device": torch.device("cpu"), "prepare_batch": split, "loss_function": squared_error, **kwargs},
    )
