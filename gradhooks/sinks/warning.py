"""Warnings that point at the line of the user's code that trains, not at one of Keras."""

import itertools
import os
import pathlib
import sys
import sysconfig
import types
import warnings

# What holds installed packages, by the last part of its path.
_PACKAGES = {"site-packages", "dist-packages"}
_OWN = pathlib.Path(__file__).parents[1]
_FRAMEWORKS = ("keras", "tensorflow")


def warn_user(message: str, category: type[Warning]) -> None:
    """Warns, with the file and line of the user's code that called `fit`, or the check.

    That is the call nearest to the warning outside of installed packages and the
    standard library. Code that Keras calls inside of `fit`, such as a callback of
    the user's, is passed over. Where all code is installed, it is the nearest call
    outside of Keras and its backend.

    Args:
        message: The text of the warning.
        category: Its class.
    """
    frame = _find_frame(sys._getframe(1))
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _find_frame(frame: types.FrameType) -> types.FrameType:
    """Returns the frame to point at, of a frame and those that called it."""
    frames: list[types.FrameType] = []
    caller: types.FrameType | None = frame
    while caller is not None:
        frames.append(caller)
        caller = caller.f_back
    trainer = next((k for k, f in enumerate(frames) if _is_fit(f)), 0)
    calls = [f for f in frames[trainer:] if not _is_under(_filename(f), _OWN)]
    own = itertools.chain(
        (f for f in calls if not _is_installed(_filename(f))),
        (f for f in calls if not _is_framework(f)),
    )
    return next(own, frames[-1])


def _filename(frame: types.FrameType) -> str:
    return frame.f_code.co_filename


def _is_fit(frame: types.FrameType) -> bool:
    return frame.f_code.co_name == "fit" and _is_framework(frame)


def _is_framework(frame: types.FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] in _FRAMEWORKS


def _is_installed(filename: str) -> bool:
    """Whether code belongs to an installed package, the standard library or the interpreter."""
    if filename.startswith("<frozen "):
        return True
    is_package = not _PACKAGES.isdisjoint(pathlib.PurePath(filename).parts)
    return is_package or _is_under(filename, pathlib.Path(sysconfig.get_paths()["stdlib"]))


def _is_under(filename: str, folder: pathlib.Path) -> bool:
    return pathlib.Path(os.path.abspath(filename)).is_relative_to(folder)
