"""The bill of materials is valid against CycloneDX's schema and names what is shipped."""

import json
import uuid

import pytest

from scripts.run.files import file_sha256
from scripts.shipping.model_card import BOM, write_bom
from scripts.shipping.shipment import Shipment
from tests.shipping.conftest import NETWORK

pytest.importorskip("cyclonedx")


def test_it_is_valid_against_the_schema(shipped):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (shipped / "docs" / BOM).read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"machine-learning-model"', '"magic"')) is not None


def test_it_names_network_packages_and_data(shipped):
    content = json.loads((shipped / "docs" / BOM).read_text())
    network = content["metadata"]["component"]
    sha256 = file_sha256(shipped / "models" / "model.pt")
    assert network["type"] == "machine-learning-model"
    assert network["hashes"] == [{"alg": "SHA-256", "content": sha256}]
    assert content["serialNumber"] == uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{sha256}").urn
    assert {p["name"]: p["value"] for p in network["properties"]} == {
        "network": NETWORK["_target_"], "method": "noisy_label_ft", "seed": "3",
    }  # fmt: skip
    metadata = json.loads((shipped / "configs" / "metadata.json").read_text())
    packages = {c["name"]: c["version"] for c in content["components"] if c["type"] == "library"}
    assert packages == {
        "monai": metadata["monai_version"], "torch": metadata["pytorch_version"], "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }  # fmt: skip
    data = {c["name"]: c["description"] for c in content["components"] if c["type"] == "data"}
    assert data["retain"].startswith("2 volumes, 8 slices")
    (depends,) = [entry["dependsOn"] for entry in content["dependencies"] if entry["ref"] == "network"]
    assert set(depends) == {component["bom-ref"] for component in content["components"]}


def test_its_time_is_that_of_the_run(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    metadata = {"name": "n", "version": "1", "description": "d", "required_packages_version": {}}
    metadata |= {"monai_version": "1", "pytorch_version": "2", "numpy_version": "3"}
    for started, expected in (("2026-01-02T03:04:05+0100", "2026-01-02T03:04:05+01:00"), (None, None)):
        shipment = Shipment(tmp_path / "model.pt", NETWORK, record={"started": started} if started else {})
        texts = set()
        for _ in range(2):
            assert write_bom(tmp_path / BOM, tmp_path / "model.pt", shipment, metadata)
            texts.add((tmp_path / BOM).read_text())
        (text,) = texts
        assert json.loads(text)["metadata"].get("timestamp") == expected
