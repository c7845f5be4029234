"""How fast files are encrypted and decrypted, beside a bare loop of AES-256-GCM in the same run; and columns by subject.

python -m benchmarks.encryption [--megabytes 64] [--subjects 100000] [--output FILE]
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.machine import machine, measure_part
from workbench.sections import KeysSettings
from workbench.security.encryption.files import decrypt_file, encrypt_file, write_encrypted
from workbench.security.encryption.rewrapping import rewrap
from workbench.security.keyset.opening import Keys
from workbench.security.messages import CHUNK_BYTES, KEY_BYTES, decrypted_pieces, encrypt_message, encrypted_pieces
from workbench.security.subjects.columns import EncryptedColumns, decrypt_values, encrypt_columns
from workbench.security.subjects.keys import SubjectKeys

OUTPUT = Path(__file__).parent / "results" / "encryption.json"
ROUNDS = 3
REWRAPPED = 200
BATCH_ROWS = 25_000  # of a flow's transaction


def main() -> None:
    """Measure, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--subjects", type=int, default=100_000)
    arguments = parser.parse_args()
    size = arguments.megabytes << 20
    result: dict[str, Any] = {"machine": machine()}
    command = f"python -m benchmarks.encryption --megabytes {arguments.megabytes}"
    measure_part(result, "files", lambda folder: files(folder, size), command=command, output=arguments.output)
    subjects = f"python -m benchmarks.encryption --subjects {arguments.subjects}"
    measure_part(
        result,
        "subjects",
        lambda folder: columns(folder, arguments.subjects),
        command=subjects,
        output=arguments.output,
    )
    measure_part(result, "rewrap", rewraps, command=command, output=arguments.output)


def files(folder: Path, size: int) -> dict[str, Any]:
    """Rates for one file of *size* random bytes."""
    keys = Keys.of(folder, KeysSettings())
    keys.create()
    source, sealed, plain = folder / "source", folder / "sealed", folder / "plain"
    content = os.urandom(size)
    source.write_bytes(content)
    pieces = [content[start : start + CHUNK_BYTES] for start in range(0, size, CHUNK_BYTES)]
    key = os.urandom(KEY_BYTES)
    message = encrypt_message(key, content, b"")
    rates = {
        "bare_encrypt": rate(size, lambda: bare_encrypt(pieces)),
        "encrypt_stream": rate(size, lambda: drain(encrypted_pieces(key, io.BytesIO(content), b""))),
        "decrypt_stream": rate(size, lambda: drain(decrypted_pieces(key, io.BytesIO(message), b"", subject="it"))),
        "encrypt_file": rate(size, lambda: encrypt_file(keys, source, sealed, "benchmark")),
        "decrypt_file": rate(size, lambda: decrypt_file(keys, sealed, plain, "benchmark")),
        "bare_write": rate(size, lambda: bare_write(content, folder / "bare")),
    }
    assert plain.read_bytes() == content
    return {"bytes": size, "rounds": ROUNDS, "megabytes_per_second": rates}


def rate(size: int, work: Callable[[], object]) -> list[float]:
    """Megabytes (10^6 bytes) a second, of each round."""
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        rates.append(round(size / 1e6 / (time.perf_counter() - began), 1))
    return rates


def drain(pieces: Iterable[object]) -> None:
    """Ask for every piece, and do nothing with it."""
    for _ in pieces:
        pass


def bare_encrypt(pieces: list[bytes]) -> None:
    """AES-256-GCM over pieces of the same size, in memory: no file, no keys, no commitment."""
    cipher = AESGCM(os.urandom(32))
    for number, piece in enumerate(pieces):
        cipher.encrypt(number.to_bytes(12, "big"), piece, None)


def bare_write(content: bytes, path: Path) -> None:
    """What the disk takes: the same bytes, written and synced in clear."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def columns(folder: Path, count: int) -> dict[str, Any]:
    """Values a second of a flow's batches: of subjects that are met first, are remembered, and are looked up anew."""
    keys = Keys.of(folder, KeysSettings())
    keys.create()
    rule = EncryptedColumns(table="raw.orders", kind="customer", subject="who", columns=("mail",))
    batches = [
        pa.table({"who": range(start, end), "mail": [f"{number}@example.org" for number in range(start, end)]})
        for start in range(0, count, BATCH_ROWS)
        for end in [min(start + BATCH_ROWS, count)]
    ]
    subjects = SubjectKeys(folder, keys)
    rates = {"first": _values_a_second(subjects, rule, batches)}
    few = [batches[0]] * len(batches)
    encrypt_columns(batches[0], rule, subjects)
    rates["remembered"] = _values_a_second(subjects, rule, few)
    rates["looked_up"] = _values_a_second(SubjectKeys(folder, keys), rule, batches)
    table, _ = encrypt_columns(batches[0], rule, subjects)
    mails, who = table["mail"].to_pylist(), table["who"].to_pylist()
    began = time.perf_counter()
    clear = decrypt_values(mails, who, rule, "mail", subjects, skips_erased=False)
    rates["decrypted"] = round(len(clear) / (time.perf_counter() - began), 1)
    size = subjects.store.path.stat().st_size
    return {"subjects": count, "batch_rows": BATCH_ROWS, "values_per_second": rates, "bytes_per_subject": size / count}


def _values_a_second(subjects: SubjectKeys, rule: EncryptedColumns, batches: list[pa.Table]) -> float:
    began = time.perf_counter()
    rows: int = sum(encrypt_columns(batch, rule, subjects)[0].num_rows for batch in batches)
    return round(rows / (time.perf_counter() - began), 1)


def rewraps(folder: Path) -> dict[str, Any]:
    """Headers a second; each is synced twice, and its entry in the inventory once."""
    keys = Keys.of(folder, KeysSettings())
    keys.create()
    for number in range(REWRAPPED):
        write_encrypted(keys, b"text", folder / f"sealed-{number}", "benchmark")
    keys.file.change(lambda keyset: keyset.rotated())
    keys.file.change(lambda keyset: keyset.promoted())
    began = time.perf_counter()
    done = rewrap(keys)
    seconds = time.perf_counter() - began
    assert done.moved == REWRAPPED
    return {"files": REWRAPPED, "files_per_second": round(REWRAPPED / seconds, 1)}


if __name__ == "__main__":
    main()
