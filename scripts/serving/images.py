"""A slice through the network, and as an image of the MRD protocol."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import ismrmrd
import numpy as np
import torch

from scripts.inference.dicom import rescale_slope
from scripts.inference.encoding import Encoding
from scripts.inference.model_identity import ModelIdentity
from scripts.inference.open_raw import network_input
from scripts.inference.raw_volume import nonzero_columns
from scripts.kspace.fourier import center_crop
from scripts.networks import ZeroFilled
from scripts.serving.scan import DoneSlice

FALL_BACK = "zero-filled, not the network's image: the network failed"
FALL_BACK_FLAG = ismrmrd.IMAGE_USER1
"""Set in the header of an image that is not the network's."""
LEVELS = 2**15 - 1
"""The highest grey level of int16."""
logger = logging.getLogger(__name__)


class SliceNetwork:
    """Reconstructs k-space slice by slice, as the evaluator of file inference does.

    Args:
        network: The network, in evaluation mode from now on.
        device: The device on which it is.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self.network, self.device = network.to(device).eval(), device

    @torch.no_grad()
    def __call__(self, kspace: np.ndarray, crop: tuple[int, int], source: str) -> tuple[np.ndarray, str]:
        """Reconstruct one slice.

        Args:
            kspace: (C, H, W) complex64.
            crop: Size (h, w) of the image.
            source: Named in the log.

        Returns:
            Image (h, w) float32; "" or, where it is the fall-back, what to say about it.
        """
        item = network_input(kspace, nonzero_columns(kspace))
        masked, mask = (item[key][None].to(self.device) for key in ("masked_kspace", "mask"))
        try:
            image = _cropped(self.network(masked, mask), crop)
            if not np.isfinite(image).all():
                raise ValueError("the network's image: expected finite values, found NaN or Inf")
            return image, ""
        except Exception:  # whatever it is: a scan never ends without an image
            logger.exception("%s: the network failed; the image is zero-filled", source)
        return _cropped(ZeroFilled()(masked.cpu()), crop), FALL_BACK


@dataclass(frozen=True)
class Model:
    """A network that reconstructs, and what it is."""

    network: SliceNetwork
    identity: ModelIdentity


def mrd_image(
    done: DoneSlice, encoding: Encoding, series: int, index: int, model: str, pixels: str = "float32"
) -> bytes:
    """The image as ``ismrmrd`` writes it: magnitude, x along the readout.

    float32 are exactly the values of the array. int16 are grey levels from 0 to at most 32767: the values divided by
    ``RescaleSlope`` of the image's meta attributes, its own for every image, and rounded.

    Args:
        done: Image (h, w), rows along the readout, and the head of a readout of its slice.
        encoding: The encoding of the scan.
        series: Number of the series, from 1.
        index: Number of the image in the scan, from 1.
        model: Name and version, put into the image's history.
        pixels: "float32" or "int16".
    """
    meta = {"DataRole": "Image", "ImageProcessingHistory": [model], "Keep_image_geometry": 1}
    values = done.image.T  # (y, x): the readout is x
    if pixels == "int16":
        slope = rescale_slope(float(values.max()), LEVELS)
        values = np.rint(values.astype(np.float64) / slope).astype(np.int16)
        meta |= {"RescaleSlope": f"{slope:.9e}", "RescaleIntercept": "0"}
    image = ismrmrd.Image.from_array(np.ascontiguousarray(values))
    head = image.getHead()
    for name in ("measurement_uid", "acquisition_time_stamp"):
        setattr(head, name, int(done.head[name]))
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position"):
        getattr(head, name)[:] = [float(value) for value in done.head[name]]
    for name in ("average", "slice", "contrast", "phase", "repetition", "set"):
        setattr(head, name, int(done.head["idx"][name]))
    rows, columns = encoding.spacing or (1.0, 1.0)
    head.field_of_view[:] = (
        rows * done.image.shape[0],
        columns * done.image.shape[1],
        encoding.slice_thickness or 1.0,
    )
    head.image_type = ismrmrd.IMTYPE_MAGNITUDE
    head.image_series_index, head.image_index = series, index % 65536
    if done.note:
        head.setFlag(FALL_BACK_FLAG)
    image.setHead(head)
    if done.note:
        meta["ImageComments"] = done.note
    image.meta = meta
    return image.to_bytes()


def _cropped(images: torch.Tensor, crop: tuple[int, int]) -> np.ndarray:
    return center_crop(images[0], crop)[0].float().cpu().numpy()
