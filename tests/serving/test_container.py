"""The container's files agree with each other, with the server's settings and with the versions that were tested."""

import json
import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from scripts.serving.limits import Limits

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "bundle" / "configs" / "container"
SERVE = json.loads((ROOT / "bundle" / "configs" / "serve.json").read_text())
FILE = (FOLDER / "Containerfile").read_text()


def of_file(name: str) -> list[str]:
    """The list that an instruction of the Containerfile holds."""
    return json.loads(re.search(rf"^{name}.*?(\[.*\])$", FILE, re.M)[1])


def pods() -> dict[str, dict]:
    deployment = next(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
    return deployment["spec"]["template"]["spec"]


def test_the_commands_are_settings_of_the_server():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["serve"]["command"]
    kubernetes = pods()["containers"][0]["args"]
    for command in (of_file("CMD"), compose, kubernetes):
        assert command[:5] == ["monai.bundle", "run", "serve", "--config_file", "configs/serve.json"]
        settings = dict(zip(command[5::2], command[6::2], strict=True))
        assert {name.removeprefix("--") for name in settings} <= SERVE.keys()
        assert settings["--host"] == "0.0.0.0"
    assert compose[-4:] == kubernetes[-4:]


def test_ports_health_and_patience_are_the_servers():
    assert f"EXPOSE {SERVE['port']}" in FILE
    health = of_file("HEALTHCHECK")
    assert f":{SERVE['metrics_port']}/healthz" in health[-1]
    serve = pods()["containers"][0]
    assert serve["readinessProbe"]["exec"]["command"] == serve["startupProbe"]["exec"]["command"] == health
    assert serve["ports"][0]["containerPort"] == SERVE["port"]
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    waits = (pods()["terminationGracePeriodSeconds"], int(compose["serve"]["stop_grace_period"].removesuffix("s")))
    assert min(waits) > Limits().drain_s + 5


def test_nobody_is_root_and_the_root_is_read_only():
    assert re.search(r"^USER 10001:10001$", FILE, re.M)
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert pods()["securityContext"]["runAsUser"] == 10001
    for name in ("serve", "forward"):
        assert compose[name]["read_only"]
        container = next(found for found in pods()["containers"] if found["name"] == name)
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert compose["serve"]["ports"] == [f"127.0.0.1:{SERVE['port']}:{SERVE['port']}"]
    assert compose["forward"]["network_mode"] == compose["router"]["network_mode"] == "service:serve"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_package_has_a_hash_and_the_version_that_was_tested(device):
    lines = (FOLDER / f"requirements-{device}.txt").read_text().splitlines()[1:]
    locked = {}
    for line in lines:
        name, version = re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line).groups()
        locked[name.lower().replace("_", "-")] = version.partition("+")[0]
    assert {"torch", "monai", "ismrmrd", "pydicom", "prometheus-client"} <= locked.keys()
    for line in (ROOT / ".ci" / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        wanted = Requirement(line)
        name = wanted.name.lower().replace("_", "-")
        if name in locked and (wanted.marker is None or wanted.marker.evaluate({"python_version": "3.11"})):
            assert locked[name] in wanted.specifier, name
