"""The forget term of methods that learn from a teacher."""

from __future__ import annotations

from collections.abc import Iterable

from scripts.unlearning.forget_term import ForgetTerm
from scripts.unlearning.frozen import Teacher


class TeacherTerm(ForgetTerm):
    """Base of forget terms with a teacher T.

    Args:
        teacher: The teacher T, a handler listed before, e.g. ``BlindTeacher`` or ``CalibratedTeacher``.
        forget_loader, forget_weight, retain_weight: The arguments of :class:`ForgetTerm`.
    """

    def __init__(
        self,
        teacher: Teacher,
        forget_loader: Iterable | None = None,
        forget_weight: float = 1.0,
        retain_weight: float = 1.0,
    ) -> None:
        super().__init__(forget_loader, forget_weight, retain_weight)
        self.teacher = teacher
