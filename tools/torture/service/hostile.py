"""The values that malformed requests are made of."""

import struct
import zlib
from collections.abc import Sequence
from functools import cache

METHODS = (
    "HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "CONNECT", "PROPFIND", "get", "POSTT", "X" * 300,
    "GET\tPOST", "G\u00c9T", "M-SEARCH", "PRI", "!#$%&'*+-.^_`|~",
)  # fmt: skip
IN_PATHS = (
    "%00", "\x00", "%2f", "%2F..%2F", "/../", "/..", "..", "%2e%2e/", "\\", "%5c..%5c", "//",
    ";a=b", "%", "%zz", "%c0%af", "%e2%80%ae", "\u00e9", "%u0041", "#", " ", "\t", "%0d%0aX: y",
    "\r", "a" * 300, "%ff%fe", "%ed%a0%80", "*", "~", "{id}", "$(id)", "%25%32%66",
)  # fmt: skip
PATHS = (
    "/../../etc/passwd", "/static/../app.py", "/static/..%2f..%2fapp.py",
    "/static/%2e%2e/__init__.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/C:/x",
    "/static/" + "a" * 5000, "/static/%00", "/static/index.html%00.css", "/static/con",
    "/static/..", "/static/.", "//", "/.", "/%2e%2e%2f", "*", "", "?", "http://example.org/",
    "http://localhost/about", "//example.org/about", "/jobs/", "/jobs//events", "/jobs/../about",
    "/uploads/../../x/thumbnail", "/openapi.json/", "/docs/oauth2-redirect", "/redoc",
    "/favicon.ico", "/" + "a/" * 4000, "/.git/config", "/.env", "/service.sqlite3",
    "/static/../../service.sqlite3",
)  # fmt: skip
IDS = (
    "a", "a" * 21, "a" * 22, "a" * 23, "A" * 4000, "..", "....................//", "%00" * 22,
    "a" * 21 + "%0a", "a" * 22 + "%0a", "-" * 22, "_" * 22, "\u00e9" * 22, "%ff" * 22, "0" * 22,
    "a" * 21 + "'", "'%20OR%201=1--", "a" * 20 + "%2F%2E", "{id}", "None", "*" * 22,
)  # fmt: skip
QUERIES = (
    "?", "?name=", "?name=%00", "?name=../../x", "?name=" + "a" * 3000, "?name=%ff",
    "?metadata=maybe", "?download=1&download=x", "?metadata=1&download=1", "?metadata=", "?=",
    "?&&&", "?a[]=1", "?%", "?name=%ed%a0%80", "?name=C:%5Cx%5Cy.png", "?name=%3Cscript%3E",
    "?download=" + "9" * 500, "?name=%e2%80%ae%0d%0a", "?" + "a=1&" * 900,
)  # fmt: skip
HOSTS = (
    None, "", "example.org", "127.0.0.1.example.org", "localhost.example.org", "127.0.0.1:99999",
    "127.0.0.1:x", "[::1]", "[::1", "::1", "localhost:8000:8000", "user@localhost",
    "localhost@evil", "127.1", "2130706433", "0.0.0.1", "a" * 3000, "local\u00e9", "localhost/x",
    "localhost?x", "LOCALHOST", "localhost.", "127.0.0.1, example.org", "\x01", "[v1.x]",
    "[::1%25lo]", "localhost#@evil",
)  # fmt: skip
_RANGES = (
    "bytes=0-", "bytes=-1", "bytes=5-1", "bytes=99999999999-", "bytes=0-0,0-0,0-0", "bytes=",
    "bytes=a-b", "bytes=0-" + ",0-" * 2000, "items=0-1", "bytes=-" + "9" * 400, "bytes=0-1, 2-3",
    "bytes= 0 - 1", "bytes=--1", "\u0662",
)  # fmt: skip
_ACCEPTS = (
    "", "*", "*/*;q=nan", "image/*;q=inf", "image/png;q=", "image/png;q=1e999", "text/html",
    "image/", ";q=1", ",,,,", "image/webp;q=0", "image/png;;;;q=0.5", "a" * 5000,
    "image/png," * 700, "image/jpeg;q=\u00bd", "image/png;q=-1",
)  # fmt: skip
HEADERS: Sequence[tuple[str, str]] = (
    *(("Range", each) for each in _RANGES), *(("Accept", each) for each in _ACCEPTS),
    ("If-Range", "x"), ("If-None-Match", '"' * 100),
    ("If-Modified-Since", "Thu, 99 Foo 99999999999"), ("If-Modified-Since", "\u00e9"),
    ("If-None-Match", "*"), ("Origin", "null"), ("Origin", "http://example.org"),
    ("Origin", "http://["), ("Origin", "\x01"), ("Origin", "file://"),
    ("Origin", "http://127.0.0.1@evil"), ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Site", "x" * 1000), ("Referer", "http://["), ("Cookie", "gramstyle-session"),
    ("Cookie", "gramstyle-session=" + "a" * 8000), ("Cookie", "=;=;=" * 900),
    ("Cookie", 'gramstyle-session="\\777"'), ("Cookie", "\u00e9=\u00e9"),
    ("Cookie", "a[]=1; gramstyle-session=1, 2"), ("Cookie", "$Version=1; $Path=/"),
    ("Authorization", "Bearer"), ("Authorization", "Bearer  "), ("Authorization", "bearer \u00e9"),
    ("Authorization", "Basic OjpBOg=="), ("Authorization", "Bearer " + "a" * 9000),
    ("Authorization", "\u2028"), ("Last-Event-ID", "9" * 5000), ("Last-Event-ID", "\u00e9"),
    ("Expect", "100-continue"), ("Expect", "x"), ("Upgrade", "websocket"), ("Upgrade", "h2c"),
    ("Connection", "Upgrade"), ("Connection", "keep-alive, close"), ("Connection", "\u00e9" * 100),
    ("Content-Encoding", "gzip"), ("Content-Type", "multipart/form-data"), ("Content-Type", "/"),
    ("Content-Type", "multipart/form-data; boundary=" + "b" * 5000), ("Content-Type", "a" * 9000),
    ("X-Forwarded-For", "1.2.3.4, x"), ("X-Forwarded-Proto", "javascript"), ("Forwarded", "for=;"),
    ("X-HTTP-Method-Override", "DELETE"), ("X" * 5000, "y"), ("Y", "x" * 15_000),
    ("Y", "x" * 70_000), ("", "x"), ("A B", "c"), ("A", "b\x00c"), ("A", "b\r\n c"),
    ("A", "b\nC: d"), ("\u00e9", "x"), ("Accept-Language", "x" * 500),
    ("Accept-Encoding", "gzip;q=nan"), ("TE", "trailers, \x7f"), ("Host", "example.org"),
    ("Host", "localhost"), ("Keep-Alive", "timeout=999999999999"), ("Content-Length", "5"),
    ("Content-Length", "-1"), ("Transfer-Encoding", "identity"), ("Sec-WebSocket-Key", "x"),
    ("Trailer", "Content-Length"), ("Via", "x" * 3000),
)  # fmt: skip
LINES = (
    b"", b"\r\n\r\n", b"\n\n", b"GET\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1 x\r\nHost: localhost\r\n\r\n", b" GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    b"GET / HTTP/1.1\nHost: localhost\n\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A" * 70_000,
    b"CONNECT localhost:1 HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x00" * 100, b"\xff\xf4\xff\xfd\x06" * 20, b"GET / HTTP/1.1\rHost: localhost\r\r",
    b"POST /uploads HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"SSH-2.0-x\r\n", b"HELO x\r\n", b"{}\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\x00: x\r\n\r\n",
)  # fmt: skip
MORE_VALUES = (
    b'"\\ud800\\udc00"', b'"\\udfff"', b"1e400", b"-1e400", b"9" * 4000, b"-" + b"9" * 4000,
    b"1" + b"0" * 310, b"0.1e-999", b"1e-320", b"[1e400]", b"[null]", b'[{"a": []}]', b"[[[[]]]]",
    b"[" * 900 + b"]" * 900, b'{"a":' * 900 + b"1" + b"}" * 900, b'["\\u0000"]', b'"/etc/passwd"',
    b'"file:///etc/passwd"', b'"http://127.0.0.1:1/x"', b'"' + b"a" * 22 + b'"', b'"a,b"',
    b'",,,"', b"[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", b"[" + b"1," * 5000 + b"1]",
    b'"conv4_2=1,conv1_1=2"', b'"\\u202e\\ufeff"', b'"\\n\\r\\t"', b"true", b"3.0", b"-0",
    b'"nan"', b'"1e5"', b'"0x10"', b"2147483648", b"-9223372036854775809", b"[0.0, -0.0]",
    b"[-1, 2]", b'"noise"', b'"content"', b'"portrait"', b'"painterly"', b'"mean-std"',
    b'"../painterly"', b'""', b"[true, false]",
)  # fmt: skip
DOCUMENTS = (
    b"", b" ", b"null", b"0", b'""', b"[]", b"{}", b"{", b"}", b'{"content"}', b"nan", b"NaN",
    b"Infinity", b"[" * 100_000, b'{"a":' * 30_000, b'"\\ud800"', b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}", "{}".encode("utf-16"), "{}".encode("utf-32"), b"{\x00}",
    b'{"content": 1, "content": 2}', b"'a'", b'{"token": null}', b'{"token": "\\ud800"}',
    b'{"token": "' + b"x" * 100_000 + b'"}', b"\x80", b'{"options": ' + b"9" * 100_000 + b"}",
    b'{"content": "\\u0000"}', b"x" * 199_999, b"x" * 300_000, b'{"a": 1e999}',
    b'{"__proto__": {}, "__class__": 1}', b"--b--", b'{"content": {"$ref": "#"}}',
)  # fmt: skip
DISPOSITIONS = (
    'name="content"', 'name="style"', 'name="job"; filename="x"', 'name=""', "name=", "",
    "filename=x", 'name="content"; filename="../../x"', 'name="content"; filename="\u00e9\u202e"',
    "name=content", 'name="content"; filename="' + "a" * 5000 + '"', 'name="content"; filename=""',
    'name="x"', "name=\"content\"; filename*=utf-8''%ff%00", 'name="content"; filename="a\\"b"',
    "\x00", "; ; ;", 'name="style"; filename="a"\r\nContent-Transfer-Encoding: base64',
    'name="job"\r\nContent-Type: text/plain; charset=x',
    'name="style"; name="content"; filename="a"',
    'name="content"; filename="a"\r\n' + "A: b\r\n" * 500 + "C: d",
)  # fmt: skip
BOUNDARIES = ("", "-", "a" * 70, "a" * 5000, "\u00e9", " ", "b b", '"b"', "\x01", "--", "b\\")
FORM_TYPES = (
    "multipart/form-data", "multipart/form-data; boundary", "multipart/form-data; boundary=",
    "multipart/mixed; boundary=b", "multipart/form-data; boundary=c", "multipart/", "Multipart/X",
    "multipart/form-data; charset=x; boundary=b", "multipart/form-data; boundary=b; boundary=c",
    "multipart/form-data; charset=utf-16; boundary=b", "multipart/form-data; boundary=\u00e9",
    'multipart/form-data; boundary="b', "multipart/form-data, application/json",
    "application/x-www-form-urlencoded", "multipart/form-data; charset=\x00; boundary=b",
    "multipart/form-data; charset=undefined; boundary=b",
    "multipart/form-data; charset=idna; boundary=b",
)  # fmt: skip
ENCODINGS = (
    "gzip", "chunked, chunked", "gzip, chunked", "identity", "", "xchunked", "chunked;q=1",
    "\x0bchunked",
)  # fmt: skip
LENGTHS = (
    "-1", "+5", "0x10", "1e3", "5, 5", "5, 6", "9" * 19, "9" * 30, "9" * 400, "", " ", "a", "5 5",
    "\u0665", "0", "1", "100", "1000000", "31999999", "32000001", "99999999",
    "00000000000000000005", "5.0", "1_0",
)  # fmt: skip
CHUNKS = (
    b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhel", b"zz\r\nhello\r\n", b"-1\r\n\r\n",
    b"fffffffff\r\nx", b"ffffffffffffffffffffff\r\nx", b"5;a=b\r\nhello\r\n0\r\n\r\n",
    b"5\nhello\n0\n\n", b"0\r\nA: b\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n",
    b"1\r\na\r\n" * 2000 + b"0\r\n\r\n", b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n",
    b"5;" + b"a" * 20_000 + b"\r\nhello\r\n", b"", b"\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
    b" 5\r\nhello\r\n", b"0\r\n" + b"A: b\r\n" * 3000 + b"\r\n",
    b"5\r\nhello\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n",
)  # fmt: skip


@cache
def images() -> Sequence[bytes]:
    """Return files that state images which they do not have, or large ones in few bytes."""
    sizes = ((1, 1), (1, 100_000), (100_000, 1), (0, 5), (2**31 - 1, 2**31 - 1), (65_535, 65_535))
    return (
        b"",
        b"\x89PNG\r\n\x1a\n",
        *(_png(width, height) for width, height in sizes),
        _png(6000, 6000, zlib.compress(bytes(6001 * 6000), 9)),
        _png(300, 300, zlib.compress(bytes(301 * 300), 9) + b"x" * 10_000),
        b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(7) + b"," + bytes(20),
        b"BM" + struct.pack("<IIIIii", 100, 0, 54, 40, 30_000, -30_000) + bytes(40),
        b"II*\x00" + struct.pack("<I", 8) + struct.pack("<HHHII", 1, 256, 4, 1, 2**31) + bytes(4),
        b"P6 99999 99999 255\n",
        b"P6 1 1 99999999999999999999\n\x00\x00\x00",
        b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + bytes(9) + b"\xff\xd9",
        b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8X" + bytes(18),
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(x) run\n",
        b"x" * 100_000,
        bytes(1_000_000),
    )


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    """Return a grey PNG file that states a size; without data it has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
