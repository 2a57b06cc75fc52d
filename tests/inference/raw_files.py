"""ISMRMRD files written by the format's own package."""

from pathlib import Path

import numpy as np

from tests.conftest import kspace_of

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <studyInformation><studyDate>2024-01-31</studyDate><studyInstanceUID>1.2.826.0.1.9</studyInstanceUID></studyInformation>
  <measurementInformation><patientPosition>HFS</patientPosition></measurementInformation>
  <acquisitionSystemInformation><systemVendor>TEST</systemVendor><receiverChannels>{coils}</receiverChannels>
  </acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{fov_x}</x><y>{fov_y}</y><z>5</z></fieldOfView_mm></encodedSpace>
    <reconSpace><matrixSize><x>{rx}</x><y>{ry}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{fov_rx}</x><y>{fov_ry}</y><z>5</z></fieldOfView_mm></reconSpace>
    <encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>
      </kspace_encoding_step_1></encodingLimits>
    <trajectory>{trajectory}</trajectory>
  </encoding>
  <sequenceParameters><TR>500</TR><TE>20</TE></sequenceParameters>
</ismrmrdHeader>"""
SPACING = (0.5, 1.0)  # mm, along the readout and the phase encoding


def make_kspace(slices: int = 3, coils: int = 2, height: int = 64, width: int = 32, seed: int = 0) -> np.ndarray:
    """(slices, C, H, W) complex64 of smooth coil images of blobs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    centres = rng.uniform(-0.5, 0.5, (slices, coils, 2))
    images = [
        [np.exp(-8 * ((rows - r) ** 2 + (columns - c) ** 2)) * np.exp(1j * c) for r, c in slice_] for slice_ in centres
    ]
    return kspace_of(1e-3 * np.array(images)).astype(np.complex64)


def write_ismrmrd(
    path: Path,
    kspace: np.ndarray,
    *,
    columns=None,
    skip=0,
    change=None,
    trajectory="cartesian",
    noise=None,
    noise_after=(),
) -> None:
    """Write slices interleaved, each readout's position 6 mm apart along z; noise first.

    Args:
        path: file to make.
        kspace: (slices, C, H, W).
        columns: the measured ones; default all.
        skip: leading samples that were not acquired (asymmetric echo).
        change: called with each acquisition before it is written.
        trajectory: of the header.
        noise: readouts (C, samples); default a constant one, which whitens nothing.
        noise_after: such readouts behind those of the image.
    """
    import ismrmrd

    slices, coils, height, width = kspace.shape
    recon = height // 2, width
    dataset = ismrmrd.Dataset(str(path), "dataset", create_if_needed=True)
    sizes = {"fov_x": height * SPACING[0], "fov_y": width * SPACING[1]}
    sizes |= {"fov_rx": recon[0] * SPACING[0], "fov_ry": recon[1] * SPACING[1]}
    text = HEADER.format(
        coils=coils, x=height, y=width, rx=recon[0], ry=recon[1], last=width - 1, centre=width // 2,
        trajectory=trajectory, **sizes,
    )  # fmt: skip
    dataset.write_xml_header(text.encode())
    append_noise(dataset, [np.ones((coils, 16))] if noise is None else noise)
    for column in range(width) if columns is None else columns:
        for index in (*range(1, slices, 2), *range(0, slices, 2)):
            readout = ismrmrd.Acquisition.from_array(np.ascontiguousarray(kspace[index, :, skip:, column]))
            readout.center_sample = height // 2 - skip
            readout.idx.kspace_encode_step_1, readout.idx.slice = column, index
            readout.position[:] = 10.0, 20.0, 6.0 * index
            readout.read_dir[:], readout.phase_dir[:], readout.slice_dir[:] = (0, 1, 0), (1, 0, 0), (0, 0, 1)
            if change is not None:
                change(readout)
            dataset.append_acquisition(readout)
    append_noise(dataset, noise_after)
    dataset.close()


def append_noise(dataset, readouts) -> None:
    """Append noise readouts (C, samples)."""
    import ismrmrd

    for samples in readouts:
        noise = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples, np.complex64))
        noise.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        dataset.append_acquisition(noise)
