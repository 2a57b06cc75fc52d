"""Refuses a wheel: its package would be named ``scripts``, in everybody's site-packages."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditableOnly(BuildHookInterface):
    """Build hook that lets an editable install pass and nothing else."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Stop a build of another version of the wheel than ``editable``."""
        if version != "editable":
            raise RuntimeError("mri-unlearning: expected an editable install (pip install -e .), found a wheel's build")
