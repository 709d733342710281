"""A folder as a web site: what is served, and what never is."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from vantun.control.site_files import FileSite
from vantun.control.web import Answer, Headers, Request


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    site = tmp_path / "www"
    (site / "sub").mkdir(parents=True)
    (site / "empty").mkdir()
    (site / ".git").mkdir()
    (site / ".well-known").mkdir()
    (site / "index.html").write_text("<p>front")
    (site / "sub" / "index.html").write_text("<p>sub")
    (site / "style.css").write_text("p {}")
    (site / "data.bin").write_bytes(bytes(range(256)) * 1000)
    (site / "a b&ü.txt").write_text("name")
    (site / ".env").write_text("secret")
    (site / ".git" / "config").write_text("secret")
    (site / ".well-known" / "security.txt").write_text("contact")
    (tmp_path / "secret").write_text("secret")
    (site / "link").symlink_to(tmp_path / "secret")
    (site / "up").symlink_to(tmp_path)
    (site / "inside").symlink_to(site / "style.css")
    os.mkfifo(site / "pipe")
    return site


Found = tuple[Answer, bytes]


def ask(folder: Path, path: str | bytes, headers: Headers | None = None, method: bytes = b"GET") -> Found:
    """Return an answer and its body."""

    async def run() -> Found:
        site = FileSite(folder)
        target = path.encode() if isinstance(path, str) else path
        request = Request(method, b"gw.example", target, headers or [])

        answer = site.answer_now(request) or await site.answer(request, _Nothing())
        body = answer.body if isinstance(answer.body, bytes) else b"".join([piece async for piece in answer.body])
        await site.close()
        return answer, body

    before = len(os.listdir("/proc/self/fd"))
    found = asyncio.run(run())
    assert len(os.listdir("/proc/self/fd")) == before, "every file is closed"
    return found


class _Nothing:
    def __aiter__(self) -> _Nothing:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/", b"<p>front", b"text/html"),
        ("/?q=1", b"<p>front", b"text/html"),
        ("/index.html", b"<p>front", b"text/html"),
        ("//sub//", b"<p>sub", b"text/html"),
        ("/sub/../style.css", b"p {}", b"text/css"),
        ("/%73tyle.css", b"p {}", b"text/css"),
        ("/./style.css", b"p {}", b"text/css"),
        ("/a%20b%26%C3%BC.txt", b"name", b"text/plain"),
        ("/.well-known/security.txt", b"contact", b"text/plain"),
        ("/data.bin", bytes(range(256)) * 1000, b"application/octet-stream"),
    ],
)
def test_pages(folder: Path, path: str, body: bytes, kind: bytes) -> None:
    answer, found = ask(folder, path)
    fields = dict(answer.headers)
    assert (answer.status, found, fields[b"content-type"]) == (200, body, kind)
    assert int(fields[b"content-length"]) == len(body)
    assert fields[b"server"] == b"nginx"
    head, nothing = ask(folder, path, method=b"HEAD")
    assert (head.status, nothing) == (200, b"")
    assert dict(head.headers)[b"content-length"] == fields[b"content-length"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/missing", 404),
        ("/style.css/", 404),
        ("/style.css/x", 404),
        ("/sub", 301),
        ("/empty/", 403),
        ("/missing/", 404),
        ("/.env", 404),
        ("/.git/config", 404),
        ("/%2egit/config", 404),
        ("/sub/.well-known/x", 404),
        ("/..", 400),
        ("/../secret", 400),
        ("/sub/../../secret", 400),
        ("/%2e%2e/secret", 400),
        ("/..%2fsecret", 400),
        ("/%2e%2e%2fsecret", 400),
        ("/sub/..%2f..%2fsecret", 400),
        ("/..\\secret", 404),
        ("/link", 404),
        ("/up/secret", 404),
        ("/inside", 404),
        ("/pipe", 404),
        ("/a%00b", 400),
        ("/%zz", 400),
        ("/%", 400),
        ("secret", 400),
        ("*", 400),
        ("http://gw.example/", 400),
        ("/" + "a" * 300, 404),
        ("/" + "a/" * 100, 404),
        (b"/\xff\xfe", 404),
    ],
)
def test_what_is_not_served(folder: Path, path: str | bytes, status: int) -> None:
    answer, body = ask(folder, path)
    assert answer.status == status
    assert b"secret" not in body
    assert b"<hr><center>nginx</center>" in body


def test_a_folder_without_its_slash(folder: Path) -> None:
    where = dict(ask(folder, "/sub?x=1")[0].headers)[b"location"]
    assert where == b"https://gw.example/sub/?x=1"
    assert dict(ask(folder, "//sub")[0].headers)[b"location"] == b"https://gw.example/sub/"


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"BREW"])
def test_methods(folder: Path, method: bytes) -> None:
    assert ask(folder, "/", method=method)[0].status == 405


def test_what_the_visitor_has_already(folder: Path) -> None:
    fields = dict(ask(folder, "/style.css")[0].headers)
    tag, changed = fields[b"etag"], fields[b"last-modified"]
    for known in ((b"if-none-match", tag), (b"if-none-match", b'"x", W/' + tag), (b"if-none-match", b"*")):
        answer, body = ask(folder, "/style.css", [known])
        assert (answer.status, body) == (304, b"")
        assert dict(answer.headers)[b"etag"] == tag
    assert ask(folder, "/style.css", [(b"if-modified-since", changed)])[0].status == 304
    for other in ((b"if-none-match", b'"x"'), (b"if-modified-since", b"Thu, 01 Jan 1970 00:00:00 GMT")):
        assert ask(folder, "/style.css", [other])[0].status == 200
    assert ask(folder, "/style.css", [(b"if-modified-since", b"\xffnonsense")])[0].status == 200
    both = [(b"if-none-match", b'"x"'), (b"if-modified-since", changed)]
    assert ask(folder, "/style.css", both)[0].status == 200, "the tag decides"


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        (b"bytes=0-9", 206, 0, 10),
        (b"bytes=255990-", 206, 255990, 256000),
        (b"bytes=-10", 206, 255990, 256000),
        (b"bytes=255990-999999999", 206, 255990, 256000),
        (b"bytes=0-", 200, 0, 256000),
        (b"bytes=256000-", 416, 0, 0),
        (b"bytes=-0", 416, 0, 0),
        (b"bytes=9-0", 416, 0, 0),
        (b"bytes=x-y", 416, 0, 0),
        (b"bytes=0-1,5-6", 200, 0, 256000),
        (b"lines=1-2", 200, 0, 256000),
        (b"bytes=99999999999999999999-", 416, 0, 0),
    ],
)
def test_ranges(folder: Path, wanted: bytes, status: int, first: int, last: int) -> None:
    answer, body = ask(folder, "/data.bin", [(b"range", wanted)])
    assert answer.status == status
    if status != 416:
        assert body == (bytes(range(256)) * 1000)[first:last]
    if status == 206:
        assert dict(answer.headers)[b"content-range"] == b"bytes %d-%d/256000" % (first, last - 1)
    elif status == 416:
        assert dict(answer.headers)[b"content-range"] == b"bytes */256000"


def test_a_range_of_another_version(folder: Path) -> None:
    headers = [(b"range", b"bytes=0-9"), (b"if-range", b'"old"')]
    assert ask(folder, "/data.bin", headers)[0].status == 200


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert ask(tmp_path / "missing", "/")[0].status == 404


def test_no_permission(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (folder / "style.css").chmod(0)
    assert ask(folder, "/style.css")[0].status == 403
