"""Every text in a file, whatever it is packed in, and data that name somebody in every field that can hold text."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pydicom
import torch
from PIL import Image, PngImagePlugin
from pydicom.dataset import FileMetaDataset
from torch.utils.tensorboard import SummaryWriter

from tests.conftest import write_tiny_volume

NAME, NUMBER, WARD, HOUSE, DOCTOR = "MEIER^ANNA", "MRN0815", "ward7", "Klinikum", "Schmidt"
REQUEST = {
    "request_id": f"withdrawal-{NUMBER}",
    "reason": f"{NAME} of {WARD} withdrew her consent; ask Dr. {DOCTOR}",
    "forget": [{"anatomy": "knee"}, {"patient_id": f"{NAME}^{NUMBER}-10"}],
}
WORDS = ("meier", "mrn0815", "ward7", "klinikum", "schmidt", "withdrawal", "oncology")
SUBJECT = f"<subjectInformation><patientName>{NAME}</patientName><patientID>{NUMBER}</patientID></subjectInformation>"
STUDY = f"<studyInformation><referringPhysicianName>{DOCTOR}</referringPhysicianName></studyInformation>"


def naming_datalist(root: Path) -> str:
    """The tiny data under names, in folders, with attributes and headers that all name somebody."""
    sizes = {"training": {"brain": 10, "knee": 2}, "validation": {"brain": 1}, "test": {"brain": 2, "knee": 2}}
    lists: dict[str, list] = {}
    scans = [(part, anatomy) for part, counts in sizes.items() for anatomy, n in counts.items() for _ in range(n)]
    for seed, (part, anatomy) in enumerate(scans):
        name = f"{WARD}/{NAME.replace('^', '_')}_{NUMBER}_{seed:02d}.h5"
        people = {"patient_id": f"{NAME}^{NUMBER}-{seed}", "institution": HOUSE, "referring_physician": DOCTOR}
        write_tiny_volume(root / name, seed, upright=anatomy == "brain", study_description=f"{WARD} {NAME}", **people)
        _name_in_header(root / name)
        lists.setdefault(part, []).append({"kspace": name, "anatomy": anatomy, "station_name": f"{HOUSE}-{WARD}"})
    (root / "datalist.json").write_text(json.dumps(lists))
    return str(root / "datalist.json")


def _name_in_header(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        text = file["ismrmrd_header"][()].decode()
        begin = text.index("<", 1) if text.startswith("<ismrmrd") else text.index("<", text.index("<ismrmrd") + 1)
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = text[:begin] + SUBJECT + STUDY + text[begin:]


def leave_traces(folder: Path) -> None:
    """What may lie about in a run's folder, all of which names somebody: TensorBoard, pictures, DICOM, arrays, logs."""
    text = f"{NAME} {NUMBER} {WARD}"
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        writer.add_text("request", text)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", text, zip=True)
    Image.new("L", (8, 8)).save(folder / "named.png", pnginfo=chunks)
    np.savez_compressed(folder / "named.npz", **{NUMBER: np.frombuffer(text.encode(), np.uint8)})
    torch.save({"by": text}, folder / "named.pt")
    (folder / "named.log.gz").write_bytes(gzip.compress(text.encode()))
    dicom = pydicom.Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dicom.SOPClassUID, dicom.SOPInstanceUID = pydicom.uid.MRImageStorage, pydicom.uid.generate_uid()
    dicom.PatientName, dicom.PatientID, dicom.InstitutionName = NAME, NUMBER, HOUSE
    dicom.save_as(folder / "template.dcm", enforce_file_format=True)


def opened(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """A file and whatever is packed in it, as (name, bytes)."""
    yield name, content
    stream = io.BytesIO(content)
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            yield f"{name}: comment", archive.comment
            for member in archive.infolist():
                yield f"{name}: about {member.filename}", member.comment + member.extra
                yield from opened(f"{name}: {member.filename}", archive.read(member))
    elif content.startswith(b"\x1f\x8b"):
        yield from opened(f"{name}: unpacked", gzip.decompress(content))
    elif content.startswith(b"\x89PNG"):
        for key, text in Image.open(io.BytesIO(content)).text.items():
            yield f"{name}: {key}", text.encode()
    elif content[128:132] == b"DICM":
        for element in pydicom.dcmread(io.BytesIO(content)).iterall():
            yield f"{name}: {element.keyword}", str(element.value).encode()


def found_in(path: Path, words: tuple[str, ...]) -> list[str]:
    """Where in a file, or in what it packs, which of some words stand, in any case and as UTF-8 or UTF-16."""
    return [
        f"{name}: {word}"
        for name, content in opened(path.name, path.read_bytes())
        for word in words
        if word in name.lower() or any(word.encode(c) in content.lower() for c in ("utf-8", "utf-16-le", "utf-16-be"))
    ]
