"""A folder of pages as a web site: names are walked one by one below the folder, no symbolic link is followed.

Whatever the request says, a file is opened by its single names from the folder's own descriptor with O_NOFOLLOW, so
neither '..' nor a link, nor one that is put there in between, leads out of the folder.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime
from mimetypes import MimeTypes
from pathlib import Path
from urllib.parse import unquote_to_bytes

from vantun.control.web import SERVER, Answer, Headers, Request, error

PIECE = 64 << 10
"""Bytes read at a time."""
_THREADS = 4
_MAX_DEPTH = 64
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # non-blocking: a FIFO must not hold a thread
_TYPES = MimeTypes(filenames=())
_RANGE = re.compile(rb"\s*bytes\s*=\s*(\d{0,18})-(\d{0,18})\s*")


class _WrongPathError(Exception):
    """A path that names nothing; carries the status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class FileSite:
    """Serves the regular files below ``folder``, as nginx would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = ThreadPoolExecutor(_THREADS, "site")

    def answer_now(self, request: Request) -> Answer | None:
        """Refuse what is no reading of a page."""
        if request.method not in (b"GET", b"HEAD"):
            return error(405, request)
        try:
            split_path(request.path)
        except _WrongPathError as wrong:
            return error(wrong.status, request)
        return None

    async def answer(self, request: Request, body: AsyncIterator[bytes]) -> Answer:
        """Return a file, or what is to be said about it."""
        del body
        loop = asyncio.get_running_loop()
        try:
            names, is_folder = split_path(request.path)
            opening = loop.run_in_executor(self._threads, open_file, self._folder, names, is_folder)
            try:
                descriptor, found = await asyncio.shield(opening)
            except asyncio.CancelledError:
                opening.add_done_callback(_close_result)  # the thread goes on, and nobody else would close its file
                raise
        except _WrongPathError as wrong:
            return self._wrong(wrong.status, request)
        try:
            name = names[-1] if names and not is_folder else "index.html"
            return self._file(request, name, descriptor, found)
        except BaseException:
            os.close(descriptor)
            raise

    async def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    def _wrong(self, status: int, request: Request) -> Answer:
        if status != 301:
            return error(status, request)
        path, mark, query = request.path.partition(b"?")
        # two slashes at the front would name another host
        place = b"/" + path.lstrip(b"/") + b"/" + mark + query
        where = request.scheme + b"://" + request.authority + place if request.authority else place
        return error(301, request, [(b"location", where)])

    def _file(self, request: Request, name: str, descriptor: int, found: os.stat_result) -> Answer:
        tag = f'"{int(found.st_mtime):x}-{found.st_size:x}"'.encode()
        changed = formatdate(int(found.st_mtime), usegmt=True).encode()
        about: Headers = [(b"server", SERVER), (b"date", formatdate(usegmt=True).encode())]
        proof: Headers = [(b"last-modified", changed), (b"etag", tag)]
        if _is_fresh(request, tag, found.st_mtime):
            os.close(descriptor)
            return Answer(304, [*about, *proof])
        kind = (_TYPES.guess_type(name)[0] or "application/octet-stream").encode()
        part = _range(request, tag, changed, found.st_size)
        if part is None:
            os.close(descriptor)
            return error(416, request, [(b"content-range", b"bytes */%d" % found.st_size)])
        first, last = part
        length = last - first
        headers = [*about, (b"content-type", kind), (b"content-length", b"%d" % length), *proof]
        status = 200
        if length < found.st_size:
            status = 206
            headers.append((b"content-range", b"bytes %d-%d/%d" % (first, last - 1, found.st_size)))
        else:
            headers.append((b"accept-ranges", b"bytes"))
        if request.method == b"HEAD" or not length:
            os.close(descriptor)
            return Answer(status, headers)
        return Answer(status, headers, _Pieces(self._threads, descriptor, first, last))


class _Pieces:
    """The bytes ``first`` to ``last`` of an open file; closes it at the end, or by :meth:`aclose`."""

    def __init__(self, threads: ThreadPoolExecutor, descriptor: int, first: int, last: int) -> None:
        self._threads = threads
        self._descriptor = descriptor
        self._next = first
        self._last = last
        self._reading: asyncio.Future[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._descriptor < 0 or self._next >= self._last:
            await self.aclose()
            raise StopAsyncIteration
        size = min(PIECE, self._last - self._next)
        loop = asyncio.get_running_loop()
        self._reading = loop.run_in_executor(self._threads, os.pread, self._descriptor, size, self._next)
        piece = await asyncio.shield(self._reading)
        if not piece:
            raise OSError("the file has become shorter while it was sent")
        self._next += len(piece)
        return piece

    async def aclose(self) -> None:
        """Close the file, once no thread reads it any more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._reading is not None and not self._reading.done():
            self._reading.add_done_callback(lambda _: os.close(descriptor))
        else:
            os.close(descriptor)


def _close_result(opening: asyncio.Future[tuple[int, os.stat_result]]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result()[0])


def split_path(target: bytes) -> tuple[list[str], bool]:
    """Return the names in a request target, and whether it ends as a folder; raises _WrongPathError."""
    raw = unquote_to_bytes(target.partition(b"?")[0].partition(b"#")[0])
    if not raw.startswith(b"/") or b"\0" in raw or re.search(rb"%(?![0-9A-Fa-f]{2})", target.partition(b"?")[0]):
        raise _WrongPathError(400)
    names: list[str] = []
    parts = raw.split(b"/")[1:]
    for part in parts:
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not names:
                raise _WrongPathError(400)
            names.pop()
            continue
        names.append(os.fsdecode(part))
    # what begins with a dot is not for visitors (.git, .env), but for the one folder that is (RFC 8615)
    hidden = any(name.startswith(".") and (place or name != ".well-known") for place, name in enumerate(names))
    if hidden or len(names) > _MAX_DEPTH or any(len(os.fsencode(name)) > 255 for name in names):
        raise _WrongPathError(404)
    return names, parts[-1] in (b"", b".", b"..")


def open_file(folder: Path, names: list[str], is_folder: bool) -> tuple[int, os.stat_result]:  # noqa: FBT001
    """Open a regular file below ``folder``; raises _WrongPathError with the status to answer."""
    walk = [*names, "index.html"] if is_folder else names
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise _WrongPathError(404) from None
    try:
        for name in walk:
            deeper = os.open(name, _FLAGS, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        found = os.fstat(descriptor)
    except OSError as failure:
        os.close(descriptor)
        # a folder without index.html may not be listed
        is_listing = is_folder and isinstance(failure, FileNotFoundError) and _is_there(folder, names)
        raise _WrongPathError(403 if is_listing or isinstance(failure, PermissionError) else 404) from None
    if stat.S_ISREG(found.st_mode):
        return descriptor, found
    os.close(descriptor)
    raise _WrongPathError(301 if stat.S_ISDIR(found.st_mode) and not is_folder else 404)


def _is_there(folder: Path, names: list[str]) -> bool:
    try:
        os.close(open_file(folder, names, is_folder=False)[0])
    except _WrongPathError as wrong:
        return wrong.status == 301
    return False


def _is_fresh(request: Request, tag: bytes, changed: float) -> bool:
    """Tell whether the visitor has this file already (RFC 9110, section 13.2.2)."""
    if wanted := request.header(b"if-none-match"):
        known = [entry.strip().removeprefix(b"W/") for entry in wanted.split(b",")]
        return b"*" in known or tag in known
    if since := request.header(b"if-modified-since"):
        try:
            return parsedate_to_datetime(since.decode("ascii")).timestamp() >= int(changed)
        except (ValueError, UnicodeDecodeError, OverflowError):
            return False
    return False


def _range(request: Request, tag: bytes, changed: bytes, size: int) -> tuple[int, int] | None:
    """Return the bytes [first, last) to send, None when there are no such bytes.

    Several ranges at once are answered with the whole file, as RFC 9110, section 14.2, allows.
    """
    whole = (0, size)
    wanted = request.header(b"range")
    condition = request.header(b"if-range")
    if not wanted or request.method != b"GET" or (condition and condition not in (tag, changed)):
        return whole
    match = _RANGE.fullmatch(wanted)
    if match is None or (not match[1] and not match[2]):
        return None if wanted.strip().startswith(b"bytes=") and b"," not in wanted else whole
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size) if length else None
    first = int(match[1])
    last = int(match[2]) + 1 if match[2] else size
    if first >= size or last <= first:
        return None
    return first, min(last, size)
