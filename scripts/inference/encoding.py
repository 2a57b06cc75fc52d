"""What an ISMRMRD header says about the k-space of a scan: its grid, and what becomes of it.

Source: Inati et al., ISMRM Raw Data Format, Magn. Reson. Med. 77 (2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

from scripts.data.header import encoding_of, header_fields, limit_of, matrix_size, parse_header, whole_number
from scripts.inference.geometry import pixel_spacing, slice_thickness, space_of

TIMES = ("TR", "TE", "TI")
"""Times of the sequence that a header states for each contrast."""


@dataclass(frozen=True)
class Encoding:
    """Grid of a 2-D Cartesian scan; axis H is the readout and W the phase encoding, as in fastMRI.

    Attributes:
        matrix: (H, W) of the encoded k-space.
        recon: (h, w) of the reconstructed space, as the header states it.
        rows: Rows within the reconstructed field of view, without readout oversampling; H where the header states none.
        centre_step: The ``kspace_encode_step_1`` of column W // 2.
        remove_oversampling: Whether the readout is reduced to ``rows``.
        separate_calibration: Whether calibration readouts are no part of the image.
        averages: How many times each line is measured, as far as the header says.
        slices: How many slices are measured, as far as the header says.
        spacing: Pixel spacing (mm) between rows and columns; None where unknown.
        slice_thickness: The slice thickness in mm; None where unknown.
        fields: Texts of the header by name.
        times: The texts of each of ``TIMES``, one for each contrast.
        notes: What of the grid follows from the readouts and not from the header, in words.
    """

    matrix: tuple[int, int]
    recon: tuple[int, int]
    rows: int
    centre_step: int
    remove_oversampling: bool = True
    separate_calibration: bool = False
    averages: int = 1
    slices: int = 1
    spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Rows that are left after readout oversampling was removed; H where it is kept."""
        return self.rows if self.remove_oversampling else self.matrix[0]

    @property
    def crop(self) -> tuple[int, int]:
        """(h, w) of the image, the centre of (height, W)."""
        return min(self.height, self.recon[0]), min(self.matrix[1], self.recon[1])

    def fields_of(self, contrast: int) -> dict[str, str]:
        """The texts of the header, with the times of a contrast; "" where the header states fewer contrasts."""
        times = {
            name: texts[contrast] if contrast < len(texts) else ""
            for name, texts in self.times.items()
            if len(texts) > 1
        }
        return {**self.fields, **times}

    def fitted(self, samples: int) -> Encoding:
        """The same with the oversampling of the readouts, where the header states another.

        Streams drop it without changing the header, or state the matrix without it.

        Args:
            samples: Of the smallest grid around the centre sample that holds the readouts, or one less.
        """
        height = self.matrix[0]
        factor = -(-samples // height)
        if self.rows < height and samples in (self.rows - 1, self.rows):
            note = f"readout oversampling was removed before: {samples} samples, {height} in the header"
            return replace(self, matrix=(self.rows, self.matrix[1]), notes=(note,))
        if factor > 1 and samples in (factor * height - 1, factor * height):
            note = f"readouts are oversampled {factor}-fold, which the header does not state"
            return replace(self, matrix=(factor * height, self.matrix[1]), notes=(note,))
        return self


def read_encodings(text: object, source: str, remove_oversampling: bool = True) -> list[Encoding | ValueError]:
    """Read the encodings of a scan's header, by the number that readouts name (``encoding_space_ref``).

    What an encoding does not state has its default, whatever the others state.

    Args:
        text: ISMRMRD header (XML), as it was sent or as HDF5 hands it over.
        source: Named in errors: the file, or the client.
        remove_oversampling: Reduce the readout to the field of view of the reconstructed space.

    Returns:
        Each encoding; in the place of one that cannot be reconstructed (a trajectory that is not Cartesian, a 3-D
        encoding, no matrix) the error, which names source and field.

    Raises:
        ValueError: no XML, or no encoding.
    """
    try:
        header = parse_header(text)
    except (ElementTree.ParseError, TypeError) as error:
        raise ValueError(f"{source}: header: expected XML, found text that does not parse: {error}") from error
    found: list[Encoding | ValueError] = []
    while (element := encoding_of(header, len(found))) is not None:
        try:
            found.append(_read(header, element, remove_oversampling))
        except ValueError as error:
            found.append(ValueError(f"{source}: {error}"))
    if not found:
        raise ValueError(f"{source}: header: expected an 'encoding', found none")
    return found


def _read(header: ElementTree.Element, encoding: ElementTree.Element, remove_oversampling: bool) -> Encoding:
    trajectory = (encoding.findtext("{*}trajectory") or "").strip().lower()
    if trajectory != "cartesian":
        raise ValueError(f"'trajectory': expected cartesian, found {trajectory or 'nothing'}")
    matrix = matrix_size(encoding, "encodedSpace")
    if matrix is None:
        raise ValueError("'encodedSpace/matrixSize': expected x, y and z, found none")
    depth = encoding.findtext("{*}encodedSpace/{*}matrixSize/{*}z", "1")
    try:
        flat = whole_number(depth) == 1
    except ValueError:
        flat = False
    if not flat:
        raise ValueError(f"'encodedSpace/matrixSize/z': expected 1 (2-D slices), found {depth}")
    mode = encoding.findtext("{*}parallelImaging/{*}calibrationMode") or "embedded"
    centre = limit_of(encoding, "kspace_encoding_step_1", "center")
    times = {name: header.findall(f"{{*}}sequenceParameters/{{*}}{name}") for name in TIMES}
    return Encoding(
        matrix=matrix,
        recon=matrix_size(encoding, "reconSpace") or matrix,
        rows=_rows(encoding, matrix[0]),
        centre_step=matrix[1] // 2 if centre is None else centre,
        remove_oversampling=remove_oversampling,
        separate_calibration=mode.strip() != "embedded",
        averages=1 + (limit_of(encoding, "average", "maximum") or 0),
        slices=1 + (limit_of(encoding, "slice", "maximum") or 0),
        spacing=pixel_spacing(encoding, matrix),
        slice_thickness=slice_thickness(encoding),
        fields=header_fields(header),
        times={name: tuple((time.text or "").strip() for time in found) for name, found in times.items()},
    )


def _rows(encoding: ElementTree.Element, height: int) -> int:
    """Rows of the reconstructed field of view; all where the header does not say or the rows would not be whole."""
    encoded, recon = space_of(encoding, "encodedSpace"), space_of(encoding, "reconSpace")
    if encoded is None or recon is None:
        return height
    rows = height * recon[1][0] / encoded[1][0]
    whole = round(rows)
    return whole if abs(rows - whole) < 1e-3 and recon[0][0] <= whole < height else height
