"""Decoded rows with columns encrypted by subject, before anything of them is written."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from workbench.ingestion.decoding import Decoded, Decoder, Undecodable
from workbench.security.subjects.columns import EncryptedColumns, encrypt_columns
from workbench.security.subjects.keys import SubjectKeys


class ProtectingDecoder:
    """Any decoder, with what the policies say encrypted.

    A record that has a value to encrypt, and does not say whose it is, is not decodable.
    """

    def __init__(self, decoder: Decoder, rules: Sequence[EncryptedColumns], keys: SubjectKeys) -> None:
        self._decoder = decoder
        self._rules = tuple(rules)
        self._keys = keys

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value that can be; see `workbench.ingestion.decoding.Decoder`.

        Raises:
            KeysetError, EncryptionError: when the keys cannot be used: then nothing is written.
        """
        decoded = self._decoder.decode(values)
        rows, nobodys = decoded.rows, dict[int, str]()
        for rule in self._rules:
            rows, found = encrypt_columns(rows, rule, self._keys)
            nobodys |= dict.fromkeys(found, f"{rule.subject} is null, which says whose key encrypts the record")
        if not nobodys:
            return Decoded(rows, decoded.positions, decoded.undecodable)
        refused = [Undecodable(decoded.positions[row], reason) for row, reason in nobodys.items()]
        keep = [row not in nobodys for row in range(rows.num_rows)]
        return Decoded(
            rows.filter(pa.array(keep, pa.bool_())),
            tuple(position for position, kept in zip(decoded.positions, keep, strict=True) if kept),
            tuple(sorted((*decoded.undecodable, *refused), key=lambda each: each.position)),
        )
