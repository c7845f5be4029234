"""The last guard: a record that breaks a decoder, whatever with, is told apart like one that does not fit.

Decoders tell apart what does not fit themselves. An error that they do not expect would come again
with every beginning, and its record would end the flow for ever. What breaks it at every record is no
fault of theirs: of a library that is missing, or a file that cannot be opened, whole topics would be dead letters.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from workbench.errors import WorkbenchError
from workbench.ingestion.decoding import Decoded, Decoder, Undecodable
from workbench.ingestion.decoding.framed import as_reason

logger = logging.getLogger(__name__)

Values = Sequence[bytes | None]

OF_NO_RECORD = (WorkbenchError, MemoryError, ImportError, OSError)
FEW = 10  # records that may all break the decoder alike by themselves


def decode_guarded(decoder: Decoder, values: Values, *, are_leftovers: bool = False) -> Decoded:
    """What `Decoder.decode` gives; records that break it by themselves are undecodable.

    Args:
        decoder: of the values.
        values: of a batch.
        are_leftovers: whether they were taken because they did not fit before: that all of them break it says nothing.

    Raises:
        WorkbenchError: as `Decoder.decode` does.
        MemoryError, ImportError, OSError: the machine lacks something; what did not fit now may fit next time.
        Exception: what broke the decoder, when that is no single record: also when more than a few
            break it, all in the same way, and none becomes a row.
    """
    try:
        return decoder.decode(values)
    except OF_NO_RECORD:
        raise
    except Exception as error:  # noqa: BLE001 whatever a decoder does not expect
        first = error
    broken = _broken(decoder, values, range(len(values)))
    rest = [position for position in range(len(values)) if position not in broken]
    decoded = decoder.decode([values[position] for position in rest])
    is_alike = len(broken) > FEW and len({type(error) for error in broken.values()}) == 1
    if is_alike and not decoded.rows.num_rows and not are_leftovers:
        raise first
    kinds = ", ".join(sorted({type(error).__name__ for error in broken.values()}))
    logger.warning("the decoder broke at %d records, which become dead letters: %s", len(broken), kinds)
    undecodable = [
        *(Undecodable(rest[each.position], each.reason) for each in decoded.undecodable),
        *(Undecodable(position, as_reason(error, "the decoder broke")) for position, error in broken.items()),
    ]
    undecodable.sort(key=lambda each: each.position)
    return Decoded(decoded.rows, tuple(rest[position] for position in decoded.positions), tuple(undecodable))


def _broken(decoder: Decoder, values: Values, positions: range) -> dict[int, Exception]:
    """The records that break the decoder by themselves, found by halves."""
    try:
        decoder.decode(values[positions.start : positions.stop])
    except OF_NO_RECORD:
        raise
    except Exception as error:  # noqa: BLE001 as above
        if len(positions) == 1:
            return {positions.start: error.with_traceback(None)}  # its frames hold the record
        middle = len(positions) // 2
        return _broken(decoder, values, positions[:middle]) | _broken(decoder, values, positions[middle:])
    return {}
