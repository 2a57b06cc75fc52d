"""Checks of a method's settings: errors name the field, what was expected and what was found."""

from __future__ import annotations


def check_positive(method: str, **fields: float) -> None:
    """Raise ValueError where a field is not above 0.

    Example:
        >>> check_positive("blind teacher", steps=0)
        Traceback (most recent call last):
        ...
        ValueError: blind teacher: 'steps': expected above 0, found 0
    """
    for name, value in fields.items():
        if not value > 0:
            raise ValueError(f"{method}: '{name}': expected above 0, found {value}")


def check_share(method: str, **fields: float) -> None:
    """Raise ValueError where a field is not in [0, 1].

    Example:
        >>> check_share("saliency", share=1.5)
        Traceback (most recent call last):
        ...
        ValueError: saliency: 'share': expected in [0, 1], found 1.5
    """
    for name, value in fields.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{method}: '{name}': expected in [0, 1], found {value}")
