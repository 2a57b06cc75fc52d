"""A forger of certificates: what needs no key is made to fit again."""

import json
from pathlib import Path

from scripts.audit.audit import judged_by
from scripts.audit.provenance import provenance_problems
from scripts.certificate.checks import FAILS
from scripts.certificate.verify import verify_certificate
from scripts.run.files import file_sha256, json_sha256

RESULTS = ("verdict", "forgetting", "gates", "control", "declared", "models", "measures", "provenance")


class Forger:
    """Has the whole folder but neither the signing key nor, unless it is stated, the data."""

    def __init__(self, folder: Path, statement: dict) -> None:
        self.folder, self.work, self.audit = folder, folder / "work", folder / "work" / "audit"
        self.statement = statement
        self.content = statement["predicate"]

    def judge(self) -> None:
        """Gates, control and verdict follow again from measures, declaration and provenance as they are now."""
        stated = self.content["audit"]
        provenance = stated["provenance"]
        provenance["problems"] = provenance_problems(provenance["runs"], provenance["audit"], self.content["weights"])
        kept_alone, original = stated["forgetting"]["kept_alone"], stated["control"]["measures"]
        again = judged_by(stated["measures"], original, stated["declared"], provenance["problems"], kept_alone)
        stated.update({name: again[name] for name in ("verdict", "gates", "control")})

    def write(self) -> None:
        """Write what is forged: audit.json says the same, its hash and those of all outputs are new."""
        record = json.loads((self.audit / "audit.json").read_text())
        record.update({name: self.content["audit"][name] for name in RESULTS})
        (self.audit / "audit.json").write_text(json.dumps(record))
        self.content["audit"]["configuration_sha256"] = json_sha256(record["configuration"])
        self.content["outputs"] = {name: file_sha256(self.audit / name) for name in self.content["outputs"]}
        self.save()

    def save(self) -> None:
        """Write the certificate alone; its signature no longer fits and goes."""
        (self.audit / "certificate.json").write_text(json.dumps(self.statement))
        (self.audit / "certificate.dsse.json").unlink(missing_ok=True)

    def failed(self, **options) -> list[str]:
        """What fails of the certificate as it is now."""
        found = verify_certificate(self.audit / "certificate.json", **options)
        return [what for verdict, what in found if verdict == FAILS]
