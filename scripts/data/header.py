"""The ISMRMRD XML header: the part of it that reconstruction and forget requests read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

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

    >>> root = ET.fromstring(make_header(matrix=(64, 48), recon=(32, 32), spacing=(1.0, 1.0),
    ...                                  slice_thickness=5.0, num_coils=4, systemModel="phantom"))
    >>> recon_size(root), header_fields(root)["systemModel"]
    ((32, 32), 'phantom')
    """
    ET.register_namespace("", NAMESPACE)
    root = ET.Element(f"{{{NAMESPACE}}}ismrmrdHeader")
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
    return ET.tostring(root, encoding="unicode")


def recon_size(header: ET.Element) -> tuple[int, int] | None:
    """The (h, w) of ``encoding/reconSpace/matrixSize`` (x, y), or None where the header does not say.

    Raises:
        ValueError: a size that is no whole number from 1.
    """
    size = header.find("{*}encoding/{*}reconSpace/{*}matrixSize")
    if size is None:
        return None
    found = size.findtext("{*}x", ""), size.findtext("{*}y", "")
    try:
        rows, columns = int(found[0]), int(found[1])
    except ValueError:
        rows = columns = 0
    if rows < 1 or columns < 1:
        raise ValueError(
            f"'reconSpace/matrixSize': expected whole numbers x, y from 1, found {found[0]!r}, {found[1]!r}"
        )
    return rows, columns


def check_axes(header: ET.Element | None, shape: Sequence[int], coils_too: bool) -> None:
    """Refuse k-space whose axes a header shows to be swapped: slices and coils, or rows and columns.

    Args:
        header: ``receiverChannels`` and ``encodedSpace/matrixSize`` of it are read; None: nothing to compare with.
        shape: (slices, coils, H, W) of the k-space; H is the header's x.
        coils_too: Whether nothing else, such as a reference image, says how many slices there are.

    Raises:
        ValueError: a shape that fits the header with two axes swapped, and not as it is.
    """
    if header is None:
        return
    fields = header_fields(header)
    coils = fields.get("receiverChannels")
    if coils_too and coils == str(shape[0]) and coils != str(shape[1]) and shape[1] > 1:
        raise ValueError(f"expected (slices, coils, H, W) with {coils} coils as in the header, found {tuple(shape)}")
    size = header.find("{*}encoding/{*}encodedSpace/{*}matrixSize")
    encoded = None if size is None else [size.findtext("{*}x"), size.findtext("{*}y")]
    if encoded in [[str(shape[3]), str(shape[2])]] and shape[2] != shape[3]:
        raise ValueError(
            f"expected (slices, coils, H, W) with H x W of {encoded[0]} x {encoded[1]} as in the header, found "
            f"{tuple(shape)}"
        )


def acquired_columns(header: ET.Element | None, width: int) -> tuple[int, int]:
    """First acquired column of ``width`` and the one after the last; (0, width) where the header does not say.

    fastMRI's k-space is zero-filled to the encoded matrix: of ``kspace_encoding_step_1`` the ``center`` lies at the
    middle column and ``maximum`` + 1 columns were acquired (``padding_left`` and ``padding_right`` in fastMRI's code).

    Raises:
        ValueError: limits that leave no column.

    >>> limits = "<h><encoding><encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>322</maximum>"
    >>> limits += "<center>162</center></kspace_encoding_step_1></encodingLimits></encoding></h>"
    >>> acquired_columns(ET.fromstring(limits), 368)
    (22, 345)
    """
    limits = None if header is None else header.find("{*}encoding/{*}encodingLimits/{*}kspace_encoding_step_1")
    if limits is None:
        return 0, width
    try:
        maximum, center = (int(limits.findtext(f"{{*}}{name}", "")) for name in ("maximum", "center"))
    except ValueError:
        return 0, width
    left = width // 2 - center
    first, last = max(left, 0), min(left + maximum + 1, width)
    if first >= last:
        raise ValueError(
            f"'encodingLimits/kspace_encoding_step_1': expected limits within {width} columns, found maximum {maximum} "
            f"and center {center}"
        )
    return first, last


def header_fields(header: ET.Element | None) -> dict[str, str]:
    """The text of every leaf element by its name, the first of each name; {} without a header."""
    fields: dict[str, str] = {}
    for element in header.iter() if header is not None else ():
        if len(element) == 0 and element.text and element.text.strip():
            fields.setdefault(element.tag.rpartition("}")[2], element.text.strip())
    return fields


def _child(parent: ET.Element, name: str, text: object = None) -> ET.Element:
    element = ET.SubElement(parent, f"{{{NAMESPACE}}}{name}")
    if text is not None:
        element.text = str(text)
    return element
