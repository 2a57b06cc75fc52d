"""CycloneDX list of the packages in a folder: ``python .ci/sbom.py SITE-PACKAGES > sbom.cdx.json``."""

import sys
from importlib.metadata import distributions

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

bom = Bom()
for found in distributions(path=[sys.argv[1]]):
    url = PackageURL("pypi", name=found.name.lower(), version=found.version)
    bom.components.add(
        Component(type=ComponentType.LIBRARY, name=found.name, version=found.version, purl=url, bom_ref=str(url))
    )
print(JsonV1Dot6(bom).output_as_string(indent=2))
