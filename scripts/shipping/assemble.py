"""Ship: weights and the record of their run become a self-contained MONAI bundle, folder and zip."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from scripts.networks import load_weights, save_weights
from scripts.networks.from_record import network_from_record
from scripts.run.config import bundle_root
from scripts.run.files import check_disk_space, file_sha256, full_disk_told
from scripts.run.manifest import verify_bundle, write_manifest
from scripts.shipping.contents import (
    CONFIGS,
    FULL,
    INFERENCE,
    MODEL,
    copy_modules,
    make_metadata,
    write_configs,
)
from scripts.shipping.exports import ZIP_TIME, export_network
from scripts.shipping.model_card import BOM, write_bom, write_card
from scripts.shipping.private import PrivateError, find_private, identifiers_in, private_texts
from scripts.shipping.shipment import Shipment, collect

VERBS = re.compile(r"<!-- full -->.*?<!-- end of full -->\n*", re.S)
"""What the source's model card says of verbs that only a full bundle has."""
logger = logging.getLogger(__name__)


def ship(  # noqa: PLR0913 each is a setting of the verb
    output_dir: str | Path,
    name: str,
    *,
    run_dir: str | Path | None = None,
    weights: str | Path | None = None,
    network: Mapping | None = None,
    profile: str = INFERENCE,
    version: str | None = None,
    changelog: str | None = None,
    data_source: str | None = None,
    data_license: str | Path | None = None,
    audit_dir: str | Path | None = None,
) -> Path:
    """Write ``<output_dir>/<name>`` and ``<output_dir>/<name>_v<version>.zip``, both whole or not at all.

    Neither the records nor the pictures of run and audit are shipped: they name, and show, what was forgotten. The
    model card has their figures, and the certificate goes to ``docs``. Before anything is put in place, every byte is
    searched for names of scans, for the request and for folders of this machine.

    Args:
        output_dir: Folder for both.
        name: Of the bundle: letters, digits, "_" and "-".
        run_dir: As for :func:`scripts.shipping.shipment.collect`, and so are the next two.
        weights: Other weights than those of the run.
        network: The configuration of the network.
        profile: "inference": what reconstructs and serves, and verifies the certificate; "full": what trains, unlearns
            and ships as well.
        version: Of the bundle; by default that of the source's metadata.
        changelog: Line for this version, needed for a new one.
        data_source: One sentence for metadata and model card.
        data_license: Text file; both are needed where no record states that the run read the built-in phantoms alone.
        audit_dir: Folder of the audit of these weights; its certificate is checked and shipped, if there is one.

    Returns:
        The folder.

    Raises:
        FileExistsError: the bundle is there already.
        FileNotFoundError, ValueError, OSError: naming file and field, before anything is written.
        PrivateError: something that must not leave the house is in the bundle; nothing is left behind.
    """
    output_dir, source = Path(output_dir), Path(bundle_root())
    shipment = collect(run_dir, weights, network, audit_dir)
    if profile not in CONFIGS:
        raise ValueError(f"ship: 'profile': expected {' or '.join(CONFIGS)}, found {profile!r}")
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise ValueError(f"ship: 'name': expected letters, digits, '_' and '-', found {name!r}")
    if not shipment.phantom and (data_license is None or data_source is None):
        raise ValueError(
            "ship: 'data_source', 'data_license': expected a sentence and a text file about the data that the network "
            "was trained on, since no record states that they were the built-in phantoms alone; "
            f"found {data_source}, {data_license}"
        )
    licence = Path(data_license) if data_license is not None else source / "docs" / "data_license.txt"
    if not licence.is_file():
        raise FileNotFoundError(f"{licence}: 'data_license': expected a text file, found no such file")
    metadata = make_metadata(
        json.loads((source / "configs" / "metadata.json").read_text(encoding="utf-8")),
        shipment,
        profile,
        version=version,
        changelog=changelog,
        data_source=data_source,
    )
    folder, archive = output_dir / name, output_dir / f"{name}_v{metadata['version']}.zip"
    if folder.exists():
        raise FileExistsError(f"{folder}: exists already; remove it, or choose another name or version")
    check_disk_space(output_dir, 8 * shipment.weights.stat().st_size + 10_000_000)

    output_dir.mkdir(parents=True, exist_ok=True)
    partial = tempfile.TemporaryDirectory(prefix=f".partial-{name}-", dir=output_dir)
    with partial as temporary, full_disk_told(folder, temporary):
        built = Path(temporary) / name
        _build(built, source, shipment, metadata, licence, profile)
        private = private_texts(shipment.record, run_dir, weights, audit_dir, output_dir, source)
        own = [*source.rglob("*.md"), *(source / "configs").rglob("*"), *Path(__file__).parents[1].rglob("*.py")]
        public = "".join(path.read_text(encoding="utf-8") for path in own if path.is_file() and path.suffix != ".pyc")
        found = find_private(built, private, public, identifiers_in(shipment.weights.with_suffix(".json")))
        if found:
            raise PrivateError(f"ship: expected nothing in the bundle that names scans or folders, found {found[:5]}")
        packed = Path(temporary) / archive.name
        write_zip(built, packed)
        if archive.exists() and file_sha256(archive) != file_sha256(packed):  # an equal one is of a run that was killed
            raise FileExistsError(f"{archive}: exists already; remove it, or choose another name or version")
        packed.replace(archive)
        built.replace(folder)
    logger.info("shipped %s and %s", folder, archive)
    return folder


def _build(folder: Path, source: Path, shipment: Shipment, metadata: Mapping, licence: Path, profile: str) -> None:
    write_configs(source / "configs", folder / "configs", shipment, metadata, profile)
    shutil.copyfile(source / "LICENSE", folder / "LICENSE")
    _copy_sources(folder, shipment)
    copy_modules(source, folder, shipment, profile)
    docs = folder / "docs"
    docs.mkdir()
    card = (source / "docs" / "README.md").read_text(encoding="utf-8")
    if profile != FULL:
        card = VERBS.sub("", card)
    missing = _write_network(folder, shipment)
    (docs / "README.md").write_text(write_card(card, shipment, metadata, missing), encoding="utf-8")
    shutil.copyfile(licence, docs / "data_license.txt")
    for name in ("deploy.md", "serve.md"):
        shutil.copyfile(source / "docs" / name, docs / name)
    for path in shipment.certificate:
        shutil.copyfile(path, docs / path.name)
    if shipment.certificate:
        shutil.copyfile(source / "docs" / "certificate.md", docs / "certificate.md")
    if not write_bom(docs / BOM, folder / "models" / MODEL, shipment, metadata):
        logger.info("no bill of materials: it needs the package cyclonedx-python-lib")
    write_manifest(folder)
    verify_bundle(folder)


def _copy_sources(folder: Path, shipment: Shipment) -> None:
    """Copy the modules of the user's own network or adapter, which no package brings, to the top of the bundle."""
    for top in sorted({target.partition(".")[0] for target in shipment.named} - {"scripts"}):
        file = getattr(importlib.import_module(top), "__file__", None)
        if file is None or "site-packages" in file:
            continue
        source = Path(file)
        if source.name != "__init__.py":
            shutil.copyfile(source, folder / source.name)
            continue
        for part in source.parent.rglob("*.py"):
            target = folder / top / part.relative_to(source.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(part, target)


def _write_network(folder: Path, shipment: Shipment) -> dict[str, str]:
    """Write ``models``: the weights, and the network with them in forms that need no code; return which it lacks."""
    models = folder / "models"
    models.mkdir()
    network = network_from_record(shipment.network, "ship: 'network'", shipment.named)
    load_weights(network, shipment.weights).eval()
    if _is_plain(shipment.weights, network):  # same bytes, same hash: a certificate names it
        shutil.copyfile(shipment.weights, models / MODEL)
    else:
        save_weights(network, models / MODEL)
    return export_network(folder, MODEL, network)


def _is_plain(path: Path, network: torch.nn.Module) -> bool:
    """Whether a file holds the state dict and nothing else, not even a name of its own as ``torch.save`` gives it."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else contextlib.nullcontext() as archive:
        unnamed = archive is not None and all(name.startswith("archive/") for name in archive.namelist())
    return unnamed and isinstance(content, Mapping) and set(content) == set(network.state_dict())


def write_zip(folder: Path, archive: Path) -> None:
    """Zip a folder under its own name, in a fixed order with fixed times and modes: equal files, equal bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), ZIP_TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as content, file.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(content, target, 1 << 20)
