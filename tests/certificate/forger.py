"""A forger of certificates: what needs no key is made to fit again."""

import json
from pathlib import Path

from scripts.audit.gates import control, judge, of_original, overall
from scripts.audit.provenance import doubts, provenance_problems
from scripts.audit.statistics import Statistics
from scripts.certificate.checks import FAILS
from scripts.certificate.scans import measures_of, results_of
from scripts.certificate.verify import verify_certificate
from scripts.evaluation.results import summarise, write_results
from scripts.run.files import file_sha256, json_sha256

RESULTS = ("verdict", "gates", "control", "declared", "models", "measures", "provenance")


class Forger:
    """Has the whole folder but neither the signing key nor, unless it is stated, the data."""

    def __init__(self, folder: Path, statement: dict) -> None:
        self.folder, self.work, self.audit = folder, folder / "work", folder / "work" / "audit"
        self.statement = statement
        self.content = statement["predicate"]

    def judge(self) -> None:
        """Gates, control and verdict follow again from measures, scans and provenance as they are now."""
        stated, found = self.content["audit"], self._measures()
        provenance = stated["provenance"]
        problems = provenance_problems(provenance["runs"], provenance["audit"], self.content["weights"])
        provenance["problems"] = problems
        gates = stated["declared"]["gates"]
        stated["gates"] = [judge(gate, stated["measures"]) for gate in gates]
        stated["control"] = control(gates, of_original(found["control"], stated["measures"]))
        stated["verdict"] = overall(stated["gates"], stated["control"]["sees_remembering"], doubts(problems))

    def measure(self) -> None:
        """All follows again from the results of the scans as they are now; metrics.csv too."""
        stated, found = self.content["audit"], self._measures()
        stated["measures"].update({name: value for name, value in found.items() if name != "control"})
        rows = results_of(self.content["scans"])
        stated["models"] = summarise(rows)
        write_results(rows, self.audit / "metrics.csv")
        self.judge()

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

    def _measures(self) -> dict:
        declared = self.content["audit"]["declared"]
        names = ("confidence", "bootstrap_samples", "seed", "equivalence_margins")
        found = measures_of(self.content["scans"], Statistics(*(declared[n] for n in names)), declared)
        return json.loads(json.dumps(found))

    def failed(self, **options) -> list[str]:
        """What fails of the certificate as it is now."""
        found = verify_certificate(self.audit / "certificate.json", **options)
        return [what for verdict, what in found if verdict == FAILS]
