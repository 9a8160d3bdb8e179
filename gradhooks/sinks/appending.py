"""Appends to a file all of the data or nothing, even on a full disk."""

import contextlib
import os
from io import FileIO


def append(file: FileIO, data: bytes) -> None:
    """Appends bytes to a file that others may append to, or leaves the file as it was.

    Args:
        file: Opened with mode `"ab"` or `"a+b"`, without a buffer: with one, a
            write may fail only when the buffer is flushed.
        data: bytes.

    Raises:
        OSError: If the data cannot be written.
    """
    start, written = os.fstat(file.fileno()).st_size, 0
    try:
        # A disk that is filling up takes a part of the data; the next write raises.
        while written < len(data):
            written += file.write(data[written:])
    except BaseException:
        # Data that another process has appended meanwhile must not be cut off.
        with contextlib.suppress(OSError):
            if os.fstat(file.fileno()).st_size == start + written:
                file.truncate(start)
        raise


class WholeWrites:
    """An unbuffered file that writes all of the data or nothing.

    Args:
        file: As for `append`.
    """

    def __init__(self, file: FileIO):
        self._file = file

    def write(self, data: bytes) -> None:
        """Appends bytes; raises `OSError` if they cannot be written."""
        append(self._file, data)

    def flush(self) -> None:
        """Does nothing: there is no buffer."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
