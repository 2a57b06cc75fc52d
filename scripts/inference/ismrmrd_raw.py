"""ISMRMRD raw data: readouts sorted into the k-space of 2-D Cartesian slices.

Source: Inati et al., ISMRM Raw Data Format, Magn. Reson. Med. 77 (2017).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field

import h5py
import numpy as np

from scripts.data.header import header_fields, recon_size
from scripts.data.volumes import open_volume
from scripts.inference.geometry import Geometry, crop_offset, pixel_spacing, slice_thickness
from scripts.inference.raw_volume import RawVolume

# readouts that are no image data, by the bit numbers of the format
SKIPPED = {"noise": 19, "navigation": 23, "phase correction": 24, "HP feedback": 26, "dummy": 27, "RT feedback": 28}
SKIPPED |= {"surface coil correction": 29, "phase stabilization reference": 30, "phase stabilization": 31}
CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 20, 21, 22
SINGLE = ("contrast", "phase", "repetition", "set", "kspace_encode_step_2")


@dataclass(frozen=True)
class IsmrmrdRaw(RawVolume):
    """An ISMRMRD file; axis H is the readout and W the phase encoding, as in fastMRI.

    Readout oversampling stays in the k-space and is removed by the crop to the header's ``reconSpace``. Averages
    are averaged; an asymmetric echo is placed by its ``center_sample``. Noise, navigator and separate calibration
    readouts are left out; embedded calibration lines are used.

    Attributes:
        group: the HDF5 group.
        readouts: numbers of the readouts of each slice, in order of position.
        columns: column of every readout, by its number.
    """

    group: str = "dataset"
    readouts: tuple[tuple[int, ...], ...] = ()
    columns: dict[int, int] = field(default_factory=dict)

    @classmethod
    def open(cls, path: str) -> IsmrmrdRaw:
        """Read header and the readouts' heads, without their samples.

        Raises:
            FileNotFoundError, ValueError: naming file, field, what was found and what was expected.
        """
        with open_volume(path) as file:
            group = find_group(file)
            header = _header(file, group, path)
            heads = file[group]["data"].fields("head")[:]
        matrix = _matrix(header, path)
        used = _image_readouts(heads, header, path)
        columns = _columns(heads, used, header, matrix[1], path)
        slices = _slices(heads, used)
        recon = recon_size(header) or matrix
        crop = min(matrix[0], recon[0]), min(matrix[1], recon[1])
        return cls(
            path=str(path),
            shape=(len(slices), int(heads["active_channels"][used[0]]), *matrix),
            crop=crop,
            geometry=_geometry(heads, slices, header, matrix, crop),
            fields=header_fields(header),
            group=group,
            readouts=tuple(slices),
            columns=columns,
        )

    def _read(self, index: int) -> np.ndarray:
        _, coils, height, width = self.shape
        kspace = np.zeros((coils, height, width), np.complex64)
        count = np.zeros(width, np.int64)
        numbers = self.readouts[index]
        with open_volume(self.path) as file:
            readouts = file[self.group]["data"][list(numbers)]
        for number, readout in zip(numbers, readouts, strict=True):
            column = self.columns[number]
            self._place(readout["head"], readout["data"], number, kspace[:, :, column])
            count[column] += 1
        return kspace / np.maximum(count, 1).astype(np.float32)

    def _place(self, head: np.void, data: np.ndarray, number: int, line: np.ndarray) -> None:
        """Add a readout (coils, samples) to a line (coils, H), its centre sample at H // 2."""
        length, centre = int(head["number_of_samples"]), int(head["center_sample"])
        if data.size != 2 * len(line) * length:
            raise ValueError(
                f"{self.path}: readout {number}: expected {len(line)} coils of {length} complex samples, "
                f"found {data.size} numbers"
            )
        samples = data.astype(np.float32, copy=False).view(np.complex64).reshape(len(line), length)
        kept = slice(int(head["discard_pre"]), length - int(head["discard_post"]))
        if int(head["flags"]) >> (REVERSE - 1) & 1:
            samples, centre = samples[:, ::-1], length - 1 - centre
            kept = slice(int(head["discard_post"]), length - int(head["discard_pre"]))
        positions = np.arange(length)[kept] + line.shape[1] // 2 - centre
        if len(positions) == 0 or positions[0] < 0 or positions[-1] >= line.shape[1]:
            raise ValueError(
                f"{self.path}: readout {number}: 'center_sample': {length} samples centred at {centre} do not fit the "
                f"encoded matrix of {line.shape[1]}"
            )
        line[:, positions] += samples[:, kept]


def find_group(file: h5py.File) -> str | None:
    """The group that holds ISMRMRD data (``xml`` and ``data``); None where there is none."""
    groups = (key for key, item in file.items() if isinstance(item, h5py.Group) and {"xml", "data"} <= set(item))
    return next(groups, None)


def _header(file: h5py.File, group: str, path: str) -> ET.Element:
    text = file[group]["xml"][0]
    try:
        header = ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError(f"{path}: '{group}/xml': expected XML, found text that does not parse: {error}") from error
    trajectory = (header.findtext("{*}encoding/{*}trajectory") or "").strip().lower()
    if trajectory != "cartesian":
        raise ValueError(f"{path}: 'trajectory': expected cartesian, found {trajectory or 'nothing'}")
    return header


def _matrix(header: ET.Element, path: str) -> tuple[int, int]:
    size = header.find("{*}encoding/{*}encodedSpace/{*}matrixSize")
    try:
        x, y, z = (int(size.findtext(f"{{*}}{axis}")) for axis in "xyz")
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{path}: 'encodedSpace/matrixSize': expected x, y and z, found none") from None
    if z != 1:
        raise ValueError(f"{path}: 'encodedSpace/matrixSize/z': expected 1 (2-D slices), found {z}")
    return x, y


def _image_readouts(heads: np.ndarray, header: ET.Element, path: str) -> np.ndarray:
    """Numbers of the readouts that belong to the image."""
    flags = heads["flags"]

    def has(bit: int) -> np.ndarray:
        return (flags >> np.uint64(bit - 1)) & np.uint64(1) != 0

    keep = ~np.any([has(bit) for bit in SKIPPED.values()], axis=0)
    mode = (header.findtext("{*}encoding/{*}parallelImaging/{*}calibrationMode") or "embedded").strip()
    if mode != "embedded":
        keep &= ~(has(CALIBRATION) & ~has(CALIBRATION_AND_IMAGING))
    used = np.flatnonzero(keep & (heads["encoding_space_ref"] == 0))
    if len(used) == 0:
        raise ValueError(f"{path}: readouts: expected image data, found none among {len(heads)} readouts")
    for name in SINGLE:
        found = np.unique(heads["idx"][name][used])
        if len(found) > 1:
            raise ValueError(f"{path}: '{name}': expected one value, found {len(found)}: {found[:5].tolist()}")
    coils = np.unique(heads["active_channels"][used])
    if len(coils) != 1:
        raise ValueError(f"{path}: 'active_channels': expected the same for every readout, found {coils.tolist()}")
    return used


def _columns(heads: np.ndarray, used: np.ndarray, header: ET.Element, width: int, path: str) -> dict[int, int]:
    centre = header.findtext("{*}encoding/{*}encodingLimits/{*}kspace_encoding_step_1/{*}center")
    steps = heads["idx"]["kspace_encode_step_1"][used].astype(int) + width // 2 - int(centre or width // 2)
    if steps.min() < 0 or steps.max() >= width:
        raise ValueError(
            f"{path}: 'kspace_encode_step_1': expected columns 0 to {width - 1}, found {steps.min()} to {steps.max()}"
        )
    return dict(zip(used.tolist(), steps.tolist(), strict=True))


def _slices(heads: np.ndarray, used: np.ndarray) -> list[tuple[int, ...]]:
    """Numbers of the readouts of each slice, ordered along the slice direction where the positions differ."""
    slices: dict[int, list[int]] = defaultdict(list)
    for number in used.tolist():
        slices[int(heads["idx"]["slice"][number])].append(number)

    def along(index: int) -> tuple[float, int]:
        head = heads[slices[index][0]]
        return round(float(np.dot(head["position"], head["slice_dir"])), 3), index

    return [tuple(slices[index]) for index in sorted(slices, key=along)]


def _geometry(heads: np.ndarray, slices: list, header: ET.Element, matrix, crop) -> Geometry:
    spacing, thickness = pixel_spacing(header, matrix), slice_thickness(header)
    first = [heads[readouts[0]] for readouts in slices]
    read, phase, normal = (np.asarray(first[0][name], float) for name in ("read_dir", "phase_dir", "slice_dir"))
    unit = all(abs(np.linalg.norm(v) - 1) < 1e-2 for v in (read, phase, normal))
    centres = np.array([head["position"] for head in first], float)
    distinct = len({tuple(np.round(centre, 3)) for centre in centres}) == len(centres)
    if spacing is None or not (unit and distinct and abs(read @ phase) < 1e-2):
        return Geometry(spacing, thickness)
    read, phase, normal = (vector / np.linalg.norm(vector) for vector in (read, phase, normal))
    row, column = crop_offset(matrix, crop)
    corner = centres - row * spacing[0] * read - column * spacing[1] * phase
    return Geometry(spacing, thickness, corner, phase, read, normal)
