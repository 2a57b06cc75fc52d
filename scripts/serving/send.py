"""Files that inference wrote, sent to an archive.

python -m monai.bundle run send --config_file <bundle>/configs/send.json --source outputs/inference
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from scripts.serving.outbox import OutageError, Outbox

logger = logging.getLogger(__name__)


def send(source: str | Path | None, outbox: Outbox, patience_s: float = 60) -> int:
    """Put every series below a folder into the queue and send all that waits there.

    Args:
        source: Folder with series (``*_dicom``) anywhere below it; None: only what waits already.
        outbox: The queue.
        patience_s: How long an outage is waited for.

    Returns:
        How many images the archive confirmed.

    Raises:
        FileNotFoundError: nothing to send.
        OutageError: images are left in the queue; the same command sends them later.
    """
    if source is not None:
        series = sorted({path.parent for path in Path(source).rglob("*.dcm")})
        if not series:
            raise FileNotFoundError(f"{source}: 'source': expected DICOM files (*.dcm), found none")
        for folder in series:
            outbox.put(folder)
    confirmed, deadline = 0, time.monotonic() + patience_s
    while True:
        try:
            confirmed += outbox.send()
        except OutageError as error:
            logger.warning("%s", error)
            if time.monotonic() > deadline:
                raise OutageError(f"{len(outbox.waiting())} images wait in {outbox.folder}: {error}") from error
        if not outbox.waiting():
            logger.info("the archive confirmed %d images", confirmed)
            return confirmed
        time.sleep(min(outbox.retry_s, 1))
