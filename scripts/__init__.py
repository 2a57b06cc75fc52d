"""What MONAI lacks for machine unlearning in MRI reconstruction; the bundle's configs name it by ``_target_``.

Submodules load when they are first named, so ``$import scripts`` in a config is enough for ``$scripts.data.…``.
"""

from importlib import import_module
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
