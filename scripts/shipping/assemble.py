"""Ship: weights and the record of their run become a self-contained MONAI bundle, folder and zip."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from monai.bundle import ConfigParser, ckpt_export

from scripts.files import check_disk_space
from scripts.networks import load_weights, save_weights
from scripts.run_config import bundle_root
from scripts.shipping.manifest import verify_bundle, write_manifest
from scripts.shipping.model_card import write_card
from scripts.shipping.shipment import Shipment, collect
from scripts.shipping.shipped_configs import MODEL, make_metadata, write_configs

ZIP_TIME = (1980, 1, 1, 0, 0, 0)
logger = logging.getLogger(__name__)


def ship(
    output_dir: str | Path,
    name: str,
    *,
    run_dir: str | Path | None = None,
    weights: str | Path | None = None,
    network: Mapping | None = None,
    version: str | None = None,
    changelog: str | None = None,
    data_source: str | None = None,
    data_license: str | Path | None = None,
) -> Path:
    """Write ``<output_dir>/<name>`` and ``<output_dir>/<name>_v<version>.zip``, both whole or not at all.

    Neither the record nor the pictures of the run are shipped: they name, and show, what was forgotten. The model
    card has their figures; ``audit.json`` and ``certificate.json`` of the run go to ``docs``.

    Args:
        output_dir: folder for both.
        name: of the bundle: letters, digits, "_" and "-".
        run_dir: As for :func:`scripts.shipping.shipment.collect`, and so are the next two.
        weights: Other weights than those of the run.
        network: The configuration of the network.
        version: of the bundle; by default that of the source's metadata.
        changelog: line for this version, needed for a new one.
        data_source: one sentence for metadata and model card.
        data_license: text file; needed where the run read other data than the built-in phantoms.

    Returns:
        The folder.

    Raises:
        FileExistsError: the bundle is there already.
        FileNotFoundError, ValueError, OSError: naming file and field, before anything is written.
    """
    output_dir, source = Path(output_dir), Path(bundle_root())
    shipment = collect(run_dir, weights, network)
    if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
        raise ValueError(f"ship: 'name': expected letters, digits, '_' and '-', found {name!r}")
    if not shipment.phantom and (data_license is None or data_source is None):
        raise ValueError(
            "ship: 'data_source', 'data_license': expected a sentence and a text file about the data of the run, "
            f"{shipment.configuration.get('datalist')}, which are no built-in phantoms; "
            f"found {data_source}, {data_license}"
        )
    licence = Path(data_license) if data_license is not None else source / "docs" / "data_license.txt"
    if not licence.is_file():
        raise FileNotFoundError(f"{licence}: 'data_license': expected a text file, found no such file")
    metadata = make_metadata(
        json.loads((source / "configs" / "metadata.json").read_text(encoding="utf-8")),
        shipment,
        version=version,
        changelog=changelog,
        data_source=data_source,
    )
    folder, archive = output_dir / name, output_dir / f"{name}_v{metadata['version']}.zip"
    for path in (folder, archive):
        if path.exists():
            raise FileExistsError(f"{path}: exists already; remove it, or choose another name or version")
    check_disk_space(output_dir, 6 * shipment.weights.stat().st_size + 10_000_000)

    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".partial-{name}-", dir=output_dir) as temporary:
        built = Path(temporary) / name
        _build(built, source, shipment, metadata, licence)
        write_zip(built, Path(temporary) / archive.name)
        built.replace(folder)
        try:
            (Path(temporary) / archive.name).replace(archive)
        except BaseException:
            shutil.rmtree(folder)
            raise
    logger.info("shipped %s and %s", folder, archive)
    return folder


def _build(folder: Path, source: Path, shipment: Shipment, metadata: Mapping, licence: Path) -> None:
    write_configs(source / "configs", folder / "configs", shipment, metadata)
    shutil.copyfile(source / "LICENSE", folder / "LICENSE")
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(Path(__file__).parents[1], folder / "scripts", ignore=ignored, copy_function=shutil.copyfile)
    shutil.copyfile(source / "mri_unlearning.py", folder / "mri_unlearning.py")
    docs = folder / "docs"
    docs.mkdir()
    card = (source / "docs" / "README.md").read_text(encoding="utf-8")
    (docs / "README.md").write_text(write_card(card, shipment, metadata), encoding="utf-8")
    shutil.copyfile(licence, docs / "data_license.txt")
    for name in ("deploy.md", "serve.md"):
        shutil.copyfile(source / "docs" / name, docs / name)
    for path in shipment.evidence:
        shutil.copyfile(path, docs / path.name)
    _export(folder, shipment)
    write_manifest(folder)
    verify_bundle(folder)


def _export(folder: Path, shipment: Shipment) -> None:
    """Write ``models/model.pt`` and, by MONAI's own exporter, ``models/model.ts``; compare the two."""
    models = folder / "models"
    models.mkdir()
    network = ConfigParser({"network": dict(shipment.network)}).get_parsed_content("network")
    load_weights(network, shipment.weights).eval()
    if _is_plain(shipment.weights, network):  # same bytes, same digest: a certificate names it
        shutil.copyfile(shipment.weights, models / MODEL)
    else:
        save_weights(network, models / MODEL)
    paths = list(sys.path)
    try:
        ckpt_export(
            net_id="network_def",
            filepath=str(models / "model.ts"),
            ckpt_file=str(models / MODEL),
            meta_file=str(folder / "configs" / "metadata.json"),
            config_file=str(folder / "configs" / "inference.json"),
            bundle_root=str(folder),
        )
    finally:
        sys.path[:] = paths
    scripted = torch.jit.load(models / "model.ts")
    kspace = torch.randn(1, 2, 48, 40, 2, generator=torch.Generator().manual_seed(0))
    kspace[:, :, :, 1:16:2] = 0
    with torch.no_grad():
        torch.testing.assert_close(scripted(kspace), network(kspace), rtol=1e-5, atol=1e-6)


def _is_plain(path: Path, network: torch.nn.Module) -> bool:
    content = torch.load(path, map_location="cpu", weights_only=True)
    return isinstance(content, Mapping) and set(content) == set(network.state_dict())


def write_zip(folder: Path, archive: Path) -> None:
    """Zip a folder under its own name, in a fixed order with fixed times and modes: equal files, equal bytes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), ZIP_TIME)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as content, file.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(content, target, 1 << 20)
