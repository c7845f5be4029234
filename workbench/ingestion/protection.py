"""Decoded rows with columns encrypted by subject, before anything of them is written."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from workbench.errors import KeysetError, WorkbenchError
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
            rows, found = self._encrypted(rows, rule)
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

    def _encrypted(self, rows: pa.Table, rule: EncryptedColumns) -> tuple[pa.Table, list[int]]:
        try:
            return encrypt_columns(rows, rule, self._keys)
        except (WorkbenchError, MemoryError):
            raise
        except Exception as error:
            # As another error it would be taken for the record's, which nobody could erase with its subject then.
            reason = (error.strerror if isinstance(error, OSError) else None) or "unexpected"
            raise KeysetError(
                f"{rule.table} could not be encrypted: {type(error).__name__} ({reason})",
                remedy="Nothing was written. When the folder `keys` can be read and written, run the flow again.",
            ) from error
