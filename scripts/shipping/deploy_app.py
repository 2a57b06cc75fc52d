"""MONAI Deploy application: raw k-space files in, NIfTI and DICOM out, the network run by the SDK's own operator.

    python -m scripts.shipping.deploy_app -i INPUT -o OUTPUT -m BUNDLE/models/model.ts

INPUT is a file or a folder. Needs the optional packages named in `docs/deploy.md`.
Reader and writers are those of `configs/inference.json`. The SDK's operator is used as it is; it takes one tensor, so
the network infers the mask from the columns that are not zero.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import deque
from pathlib import Path

import torch
from monai.deploy.conditions import BooleanCondition
from monai.deploy.core import AppContext, Application, Fragment, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator

from scripts.inference import KspaceSlices, VolumeWriter, find_inputs, identify_model
from scripts.run.config import bundle_root
from scripts.run.manifest import verify_shipped

logger = logging.getLogger(__name__)


class Progress:
    """What reader and writer share: the slices under way, the files done and those that failed."""

    def __init__(self) -> None:
        self.under_way: deque = deque()  # (name of the file, raw volume, slice)
        self.written: list[Path] = []
        self.failures: dict[str, str] = {}

    def fail(self, name: str, error: Exception) -> None:
        """Note that a file failed."""
        logger.error("%s: failed: %s", name, error)
        self.failures[name] = str(error)


class KspaceReader(Operator):
    """Source: emits ``image``, one slice (C, H, W, 2) float32 a tick, file by file."""

    def __init__(self, fragment: Fragment, *args, files: dict[str, Path], progress: Progress, **kwargs) -> None:
        self.progress = progress
        self.slices = self._read(files)
        self.more = BooleanCondition(fragment, name="more_slices")
        super().__init__(fragment, self.more, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the output."""
        spec.output("image")

    def compute(self, op_input, op_output, context) -> None:
        """Emit the next slice, or end."""
        if (image := next(self.slices, None)) is None:
            self.more.disable_tick()
        else:
            op_output.emit(image, "image")

    def _read(self, files: dict[str, Path]):
        dataset = KspaceSlices()
        for name, path in files.items():
            try:
                for raw in dataset.open(path):
                    dataset.turn_to(raw)
                    for index in range(len(dataset)):
                        image = dataset[index]["masked_kspace"]
                        self.progress.under_way.append((f"{name}{raw.suffix}", raw, index))
                        yield image
            except Exception as error:  # the next file has its own chance
                self.progress.fail(name, error)


class VolumeSink(Operator):
    """Sink: receives ``pred``, one image (1, H, W) a tick, and writes a volume when it is complete."""

    def __init__(self, fragment: Fragment, *args, writer: VolumeWriter, progress: Progress, **kwargs) -> None:
        self.writer, self.progress = writer, progress
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the input."""
        spec.input("pred")

    def compute(self, op_input, op_output, context) -> None:
        """Take one image."""
        image = torch.as_tensor(op_input.receive("pred"))
        name, raw, index = self.progress.under_way.popleft()
        if name in self.progress.failures:
            return
        try:
            if index == 0:
                self.writer.discard()
                self.writer.begin(raw)
            self.writer.add(index, image)
            if index == raw.num_slices - 1:
                self.progress.written += self.writer.finish(name)
        except Exception as error:
            self.progress.fail(name, error)


class ReconstructionApp(Application):
    """K-space reader -> the SDK's bundle operator -> writers.

    Args:
        formats: Of "nifti" and "dicom".
    """

    def __init__(self, *args, formats: tuple[str, ...] = ("nifti", "dicom"), **kwargs) -> None:
        self.formats, self.progress = formats, Progress()
        super().__init__(*args, **kwargs)

    def compose(self) -> None:
        """Build the graph; refuses a bundle that is not what its manifest says."""
        context: AppContext = Application.init_app_context(self.argv)
        bundle = Path(bundle_root())
        verify_shipped(bundle)
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
        model = identify_model(metadata["name"], metadata["version"], bundle / "models" / "model.pt", bundle)
        writer = VolumeWriter(context.output_path, self.formats, model)
        reader = KspaceReader(self, files=find_inputs(context.input_path), progress=self.progress, name="kspace_reader")
        network = MonaiBundleInferenceOperator(
            self,
            app_context=context,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=context.model_path,
            name="bundle_inference",
        )
        sink = VolumeSink(self, writer=writer, progress=self.progress, name="volume_sink")
        self.add_flow(reader, network, {("image", "image")})
        self.add_flow(network, sink, {("pred", "pred")})


def main() -> None:
    """Run the application; the exit code is 1 where a file failed."""
    logging.basicConfig(level=os.environ.get("LOGLEVEL", "INFO"), format="%(asctime)s %(levelname)s %(message)s")
    app = ReconstructionApp()
    app.run()
    logger.info("written: %s", ", ".join(map(str, app.progress.written)) or "nothing")
    if app.progress.failures:
        sys.exit("failed: " + "; ".join(f"{name}: {reason}" for name, reason in app.progress.failures.items()))


if __name__ == "__main__":
    main()
