"""The certificate of unlearning: an in-toto Statement about the unlearned weights, written when an audit has ended."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jsonschema

from scripts.certificate.declaration import Declaration
from scripts.certificate.predicate import SCHEMA_FILE, Identifiers, make_predicate, vocabulary
from scripts.certificate.signature import NAME, make_statement, read_private_key, sign, write_statement
from scripts.data.volumes import Volume
from scripts.requests.cohorts import Cohorts
from scripts.run.keys import MIN_KEY, make_key, read_key

logger = logging.getLogger(__name__)


class Certifier:
    """Writes ``certificate.json`` for an audit, from its outputs and the record of the unlearning run.

    Args:
        data: The volumes, split by the forget request.
        output_dir: The audit's folder.
        declaration: The gates and margins that were declared.
        identifier_key: The file with the key of the keyed hashes; None: the environment variable
            ``MRI_UNLEARNING_KEY``, else ``identifiers.key`` in the audit's folder, which is made where it is missing.
        signing_key: An Ed25519 private key (PEM); None: no signature.
        wanted: Whether a certificate is to be written at all.
        ledger: The ledger, whose last line the certificate remembers; None or False: none.
    """

    def __init__(
        self,
        data: Cohorts,
        output_dir: str | Path,
        declaration: Declaration,
        identifier_key: str | Path | None = None,
        signing_key: str | Path | None = None,
        wanted: bool = True,
        ledger: str | Path | bool | None = None,
    ) -> None:
        self.data, self.output_dir, self.declaration = data, Path(output_dir), declaration
        self.identifier_key, self.signing_key = identifier_key, signing_key
        self.wanted, self.ledger = wanted, ledger

    def check(self, record: str | Path | bool | None) -> None:
        """Refuse what would keep the certificate from being written after the audit has run.

        Args:
            record: The file of the unlearning run's record; False: there is none, then there is no certificate.

        Raises:
            FileNotFoundError, ValueError: no run record, no readable key, or other gates than the declared ones.
        """
        if not self.wanted or isinstance(record, bool):
            return
        if record is None:
            raise FileNotFoundError(
                "certificate: 'run_record': found none beside the audited weights; name it, or set certificate to false"
            )
        self.declaration.check(record)
        declared = self.declaration.declared
        if Identifiers(bytes(MIN_KEY), self._volumes()).redact(declared, vocabulary(declared)) != declared:
            raise ValueError(
                "certificate: 'gates', 'subgroups': expected texts without names of scans or patients, found some: "
                "what is declared stands in the certificate as it is"
            )
        read_key(self.identifier_key)
        if self.signing_key is not None:
            read_private_key(self.signing_key)

    def declare(self, record: str | Path | bool | None) -> None:
        """Declare gates and margins where nobody has; call it before a result is read."""
        if self.wanted and record is not False:
            self.declaration.write()

    def write(self, record: str | Path | bool | None) -> dict[str, Any] | None:
        """Write the statement and, with a signing key, the envelope ``certificate.dsse.json``.

        Args:
            record: The file of the unlearning run's record; False: there is none.

        Returns:
            The statement; None where none is wanted.
        """
        if not self.wanted or not isinstance(record, (str, Path)):
            return None
        key = read_key(self.identifier_key) or make_key(self.output_dir / "identifiers.key")
        declaration, identifiers = self.declaration.write(), Identifiers(key, self._volumes())
        predicate = make_predicate(self.data, self.output_dir, Path(record), identifiers, declaration, self.ledger)
        jsonschema.validate(predicate, json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
        path = self.output_dir / NAME
        statement = make_statement(predicate, predicate["weights"]["unlearned"]["sha256"])
        write_statement(statement, path)
        if self.signing_key is not None:
            sign(path, self.signing_key)
        logger.info("certificate in %s; check it with: python -m scripts.certificate.verify %s", path, path)
        return statement

    def _volumes(self) -> list[Volume]:
        return [volume for section in self.data.sections.values() for volume in section]
