"""What an ISMRMRD header says about the k-space of a scan: its grid, and what becomes of it.

Source: Inati et al., ISMRM Raw Data Format, Magn. Reson. Med. 77 (2017).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field

from scripts.data.header import header_fields, recon_size
from scripts.inference.geometry import pixel_spacing, slice_thickness, space_of


@dataclass(frozen=True)
class Encoding:
    """Grid of a 2-D Cartesian scan; axis H is the readout and W the phase encoding, as in fastMRI.

    Attributes:
        matrix: (H, W) of the encoded k-space.
        height: Rows that are left after readout oversampling was removed; H where it is kept.
        crop: (h, w) of the image, the centre of (height, W).
        centre_step: The ``kspace_encode_step_1`` of column W // 2.
        separate_calibration: Whether calibration readouts are no part of the image.
        averages: How many times each line is measured, as far as the header says.
        spacing: Pixel spacing (mm) between rows and columns; None where unknown.
        slice_thickness: The slice thickness in mm; None where unknown.
        fields: Texts of the header by name.
    """

    matrix: tuple[int, int]
    height: int
    crop: tuple[int, int]
    centre_step: int
    separate_calibration: bool = False
    averages: int = 1
    spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


def read_encoding(text: str | bytes, source: str, remove_oversampling: bool = True) -> Encoding:
    """Read the header of a scan.

    Args:
        text: ISMRMRD header (XML).
        source: Named in errors: the file, or the client.
        remove_oversampling: Reduce the readout to the field of view of the reconstructed space.

    Raises:
        ValueError: no XML, a trajectory that is not Cartesian, or a 3-D encoding; source and field are named.
    """
    try:
        header = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"{source}: header: expected XML, found text that does not parse: {error}") from error
    trajectory = (header.findtext("{*}encoding/{*}trajectory") or "").strip().lower()
    if trajectory != "cartesian":
        raise ValueError(f"{source}: 'trajectory': expected cartesian, found {trajectory or 'nothing'}")
    matrix = _matrix(header, source)
    height = _height_without_oversampling(header, matrix[0]) if remove_oversampling else matrix[0]
    recon = recon_size(header) or matrix
    mode = header.findtext("{*}encoding/{*}parallelImaging/{*}calibrationMode") or "embedded"
    return Encoding(
        matrix=matrix,
        height=height,
        crop=(min(height, recon[0]), min(matrix[1], recon[1])),
        centre_step=_limit(header, "kspace_encoding_step_1", "center", source, matrix[1] // 2),
        separate_calibration=mode.strip() != "embedded",
        averages=1 + _limit(header, "average", "maximum", source, 0),
        spacing=pixel_spacing(header, matrix),
        slice_thickness=slice_thickness(header),
        fields=header_fields(header),
    )


def _matrix(header: ET.Element, source: str) -> tuple[int, int]:
    size = header.find("{*}encoding/{*}encodedSpace/{*}matrixSize")
    try:
        x, y, z = (int("" if size is None else size.findtext(f"{{*}}{axis}", "")) for axis in "xyz")
    except ValueError:
        raise ValueError(f"{source}: 'encodedSpace/matrixSize': expected x, y and z, found none") from None
    if z != 1:
        raise ValueError(f"{source}: 'encodedSpace/matrixSize/z': expected 1 (2-D slices), found {z}")
    if min(x, y) < 1:
        raise ValueError(f"{source}: 'encodedSpace/matrixSize': expected positive sizes, found {x} x {y}")
    return x, y


def _height_without_oversampling(header: ET.Element, height: int) -> int:
    """Rows of the reconstructed field of view; all where the header does not say or the rows would not be whole."""
    encoded, recon = space_of(header, "encodedSpace"), space_of(header, "reconSpace")
    if encoded is None or recon is None:
        return height
    rows = height * recon[1][0] / encoded[1][0]
    whole = round(rows)
    return whole if abs(rows - whole) < 1e-3 and recon[0][0] <= whole < height else height


def _limit(header: ET.Element, counter: str, name: str, source: str, default: int) -> int:
    text = header.findtext(f"{{*}}encoding/{{*}}encodingLimits/{{*}}{counter}/{{*}}{name}")
    try:
        return default if text is None else int(text)
    except ValueError:
        raise ValueError(
            f"{source}: 'encodingLimits/{counter}/{name}': expected a whole number, found {text!r}"
        ) from None
