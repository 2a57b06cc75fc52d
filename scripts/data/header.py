"""The ISMRMRD XML header: the part of it that reconstruction and forget requests read."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np

NAMESPACE = "http://www.ismrm.org/ISMRMRD"


def make_header(
    *,
    matrix: tuple[int, int],
    recon: tuple[int, int],
    spacing: tuple[float, float],
    slice_thickness: float,
    num_coils: int,
    **fields: str,
) -> str:
    """Write a minimal ISMRMRD header.

    Args:
        matrix: Encoded (H, W), the shape of the k-space.
        recon: Reconstructed (h, w), the centre crop.
        spacing: Pixel spacing (mm) along H and W; the same for both spaces.
        slice_thickness: The slice thickness, in mm.
        num_coils: The number of receive channels.
        fields: The text of ``acquisitionSystemInformation``, e.g. ``systemModel="phantom"``.

    >>> root = ElementTree.fromstring(make_header(matrix=(64, 48), recon=(32, 32), spacing=(1.0, 1.0),
    ...                                  slice_thickness=5.0, num_coils=4, systemModel="phantom"))
    >>> matrix_size(encoding_of(root), "reconSpace"), header_fields(root)["systemModel"]
    ((32, 32), 'phantom')
    """
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.Element(f"{{{NAMESPACE}}}ismrmrdHeader")
    system = _child(root, "acquisitionSystemInformation")
    for key, value in fields.items():
        _child(system, key, value)
    _child(system, "receiverChannels", num_coils)
    encoding = _child(root, "encoding")
    for space, (rows, columns) in (("encodedSpace", matrix), ("reconSpace", recon)):
        element = _child(encoding, space)
        size = _child(element, "matrixSize")
        extent = _child(element, "fieldOfView_mm")
        values = zip("xyz", (rows, columns, 1), (rows * spacing[0], columns * spacing[1], slice_thickness), strict=True)
        for axis, count, millimetres in values:
            _child(size, axis, count)
            _child(extent, axis, f"{millimetres:g}")
    _child(encoding, "trajectory", "cartesian")
    return ElementTree.tostring(root, encoding="unicode")


def stored_text(stored: object) -> bytes:
    """The text of a header as HDF5 hands it over: text or bytes, alone or as the first of an array.

    Raises:
        TypeError: something else.
    """
    if isinstance(stored, np.ndarray) and stored.size:
        stored = stored.reshape(-1)[0]
    if isinstance(stored, str):
        stored = stored.removeprefix("\ufeff").encode()
    if not isinstance(stored, bytes):
        raise TypeError(f"{type(stored).__name__} {getattr(stored, 'shape', '')}".strip())
    return stored


def parse_header(stored: object) -> ElementTree.Element:
    """The root of a header, see :func:`stored_text`.

    Raises:
        TypeError: no text.
        xml.etree.ElementTree.ParseError: a text that is no XML.
    """
    text = stored_text(stored).strip(b"\0 \t\r\n")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError:
        if not isinstance(stored, str):
            raise
        return ElementTree.fromstring(stored)  # which states another encoding than the one it had in a file


def encoding_of(header: ElementTree.Element | None, number: int = 0) -> ElementTree.Element | None:
    """One of the encodings of a header, by number; None where there is none."""
    found = [] if header is None else header.findall("{*}encoding")
    return found[number] if number < len(found) else None


def whole_number(text: str | None) -> int:
    """A whole number as headers write it.

    Raises:
        ValueError: No number, or none that is whole.

    >>> whole_number("48"), whole_number("48.0")
    (48, 48)
    """
    number = float(text or "")
    if not number.is_integer():
        raise ValueError(f"expected a whole number, found {text!r}")
    return int(number)


def matrix_size(encoding: ElementTree.Element | None, space: str) -> tuple[int, int] | None:
    """The size (x, y) of ``encodedSpace`` or ``reconSpace``, H and W of a slice; None where the header does not say.

    Raises:
        ValueError: a size that is no whole number from 1.
    """
    size = None if encoding is None else encoding.find(f"{{*}}{space}/{{*}}matrixSize")
    if size is None:
        return None
    found = size.findtext("{*}x", ""), size.findtext("{*}y", "")
    try:
        rows, columns = whole_number(found[0]), whole_number(found[1])
    except ValueError:
        rows = columns = 0
    if rows < 1 or columns < 1:
        raise ValueError(f"'{space}/matrixSize': expected whole numbers x, y from 1, found {found[0]!r}, {found[1]!r}")
    return rows, columns


def check_axes(header: ElementTree.Element | None, shape: Sequence[int], coils_too: bool) -> None:
    """Refuse k-space whose axes a header shows to be swapped: slices and coils, or rows and columns.

    Fewer coils than the header's are no sign of it: coils may have been compressed. More are, and so is a number of
    slices that the header states.

    Args:
        header: ``receiverChannels``, ``encodedSpace/matrixSize`` and the limits of ``slice`` are read; None: nothing
            to compare with.
        shape: (slices, coils, H, W) of the k-space; H is the header's x.
        coils_too: Whether nothing else, such as a reference image, says how many slices there are.

    Raises:
        ValueError: a shape that fits the header with two axes swapped, and not as it is.
    """
    if header is None:
        return
    encoding = encoding_of(header)
    coils = header_fields(header).get("receiverChannels")
    stated = limit_of(encoding, "slice", "maximum")
    more = shape[1] > shape[0] or (stated is not None and shape[1] == stated + 1 != shape[0])
    if coils_too and coils == str(shape[0]) and shape[0] != shape[1] > 1 and more:
        raise ValueError(f"expected (slices, coils, H, W) with {coils} coils as in the header, found {tuple(shape)}")
    encoded = matrix_size(encoding, "encodedSpace")
    if encoded == (shape[3], shape[2]) and shape[2] != shape[3]:
        raise ValueError(
            f"expected (slices, coils, H, W) with H x W of {encoded[0]} x {encoded[1]} as in the header, found "
            f"{tuple(shape)}"
        )


def limit_of(encoding: ElementTree.Element | None, counter: str, name: str) -> int | None:
    """The ``minimum``, ``maximum`` or ``center`` of a counter's ``encodingLimits``, or None where there is none.

    Raises:
        ValueError: no whole number.
    """
    text = None if encoding is None else encoding.findtext(f"{{*}}encodingLimits/{{*}}{counter}/{{*}}{name}")
    if text is None:
        return None
    try:
        return whole_number(text)
    except ValueError:
        raise ValueError(f"'encodingLimits/{counter}/{name}': expected a whole number, found {text!r}") from None


def acquired_columns(encoding: ElementTree.Element | None, width: int) -> tuple[int, int]:
    """First acquired column of ``width`` and the one after the last; (0, width) where the header does not say.

    fastMRI's k-space is zero-filled to the encoded matrix: of ``kspace_encoding_step_1`` the ``center`` lies at the
    middle column and ``maximum`` + 1 columns were acquired (``padding_left`` and ``padding_right`` in fastMRI's code).

    Raises:
        ValueError: limits that leave no column.

    >>> limits = "<encoding><encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>322</maximum>"
    >>> limits += "<center>162</center></kspace_encoding_step_1></encodingLimits></encoding>"
    >>> acquired_columns(ElementTree.fromstring(limits), 368)
    (22, 345)
    """
    try:
        maximum, center = (limit_of(encoding, "kspace_encoding_step_1", name) for name in ("maximum", "center"))
    except ValueError:
        return 0, width
    if maximum is None or center is None:
        return 0, width
    left = width // 2 - center
    first, last = max(left, 0), min(left + maximum + 1, width)
    if first >= last:
        raise ValueError(
            f"'encodingLimits/kspace_encoding_step_1': expected limits within {width} columns, found maximum {maximum} "
            f"and center {center}"
        )
    return first, last


def header_fields(header: ElementTree.Element | None) -> dict[str, str]:
    """The text of every leaf element by its name, the first of each name; {} without a header.

    Of what stands several times, such as ``encoding``, the first alone is read: what it does not state is not taken
    from the second. What a header says of other measurements (``measurementDependency``) is none of its fields.
    """
    fields: dict[str, str] = {}
    seen: set[str] = set()
    for element in header if header is not None else ():
        name = element.tag.rpartition("}")[2]
        if len(element) == 0 and element.text and element.text.strip():
            fields.setdefault(name, element.text.strip())
        elif name not in seen and name != "measurementDependency":
            for key, text in header_fields(element).items():
                fields.setdefault(key, text)
        seen.add(name)
    return fields


def _child(parent: ElementTree.Element, name: str, text: object = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    if text is not None:
        element.text = str(text)
    return element
