"""Appending to a file so that what is there afterwards is whole, whatever the disk says."""

import contextlib
import os


def append(file, data):
    """Writes bytes at the end of a file, wherever that is by now, or leaves the file as it was.

    Args:
        file: Opened with mode `"ab"` or `"a+b"`, without a buffer: what a buffer
            has taken, a full disk may refuse later.
        data: bytes.

    Raises:
        OSError: If they cannot be written.
    """
    start, written = os.fstat(file.fileno()).st_size, 0
    try:
        # A disk that is filling up takes a part of the data, and says why only when offered the
        # rest.
        while written < len(data):
            written += file.write(data[written:])
    except BaseException:
        # What somebody else has written meanwhile is not cut off.
        with contextlib.suppress(OSError):
            if os.fstat(file.fileno()).st_size == start + written:
                file.truncate(start)
        raise


class WholeWrites:
    """An unbuffered file whose every `write()` is done as a whole or not at all.

    Args:
        file: As for `append`.
    """

    def __init__(self, file):
        self._file = file

    def write(self, data):
        """Appends bytes; raises `OSError` if they cannot be written."""
        append(self._file, data)

    def flush(self):
        """Does nothing, since nothing is held back."""

    def close(self):
        """Closes the file."""
        self._file.close()
