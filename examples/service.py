"""A service that runs transfers in the background, with progress and cancellation.

    python examples/service.py

It listens on 127.0.0.1:8000 and speaks JSON; images travel as base64.

    POST   /transfers            {"content": "…", "style": "…", "size": 256, "iterations": 50}
                                 → 202 {"id": "1"}
    GET    /transfers/1          → 200 {"state": "running", "iteration": 12, "iterations": 50, …}
    GET    /transfers/1/image    → 200 the result as PNG; the image so far while it runs
    DELETE /transfers/1          → 202, and the transfer ends after the iteration it is in

A state is "waiting", "running", "finished", "cancelled" or "failed". One transfer runs at a time,
since it uses every core. For the open internet, put this behind a server that authenticates.
"""

import base64
import io
import itertools
import json
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image

from gramstyle import GramstyleError, Options, open_model, transfer

MAX_BYTES = 40_000_000  # of a request
MAX_SIZE, MAX_ITERATIONS = 1024, 500
MAX_TRANSFERS = 100  # finished ones are forgotten beyond this many


class Transfer:
    """One transfer, run by `run` in a thread and watched from others."""

    def __init__(self, content, style, options):
        self.content, self.style, self.options = content, style, options
        self.state, self.iteration, self.loss, self.error = "waiting", 0, None, ""
        self.image = None
        self.cancel = threading.Event()

    def run(self, model):
        """Run the transfer to its end; errors that a user can meet become its state."""
        try:
            if not self.cancel.is_set():
                self.state = "running"
                result = transfer(
                    self.content, self.style, self.options, model=model, callback=self.on_iteration
                )
                self.image = result.image
            self.state = "cancelled" if self.cancel.is_set() else "finished"
        except GramstyleError as error:
            self.state, self.error = "failed", str(error)

    def on_iteration(self, progress):
        """Note how far the transfer is; return whether it shall end here."""
        self.iteration, self.loss = progress.losses.iteration, progress.losses.loss
        self.image = progress.image()
        return self.cancel.is_set()

    def report(self):
        """Return the transfer's state, ready for JSON."""
        report = {"state": self.state, "iteration": self.iteration, "loss": self.loss}
        report["iterations"] = self.options.iterations
        return report | ({"error": self.error} if self.error else {})


class BadRequestError(Exception):
    """A request that cannot be met; its text says why."""


class Service(ThreadingHTTPServer):
    """The transfers, and the one thread that runs them."""

    def __init__(self, address, model=None):
        self.model = open_model(model)  # read once, for all transfers
        super().__init__(address, Handler)
        self.transfers = {}
        self.ids = map(str, itertools.count(1))
        self.pool = ThreadPoolExecutor(max_workers=1)
        self.lock = threading.Lock()

    def submit(self, request):
        """Start what a request asks for as soon as the thread is free, and return its id."""
        options = options_of(request)
        images = [image_of(request.get(name), name) for name in ("content", "style")]
        wanted = Transfer(*images, options)
        with self.lock:
            ended = [id_ for id_, each in self.transfers.items() if each.state not in ACTIVE]
            if len(self.transfers) >= MAX_TRANSFERS:
                if not ended:
                    raise BadRequestError("too many transfers are waiting; try again later")
                del self.transfers[ended[0]]
            id_ = next(self.ids)
            self.transfers[id_] = wanted
        self.pool.submit(wanted.run, self.model)
        return id_

    def server_close(self):
        """Cancel every transfer, and wait for the one that runs."""
        super().server_close()
        for each in list(self.transfers.values()):
            each.cancel.set()
        self.pool.shutdown()
        self.model.close()


ACTIVE = ("waiting", "running")


def options_of(request):
    """Return the options of a request; raises BadRequestError."""
    numbers = {}
    for name, limit in (("size", MAX_SIZE), ("iterations", MAX_ITERATIONS)):
        value = request.get(name, 256 if name == "size" else 50)
        if type(value) is not int or not 1 <= value <= limit:
            raise BadRequestError(f"{name} must be a whole number from 1 to {limit}")
        numbers[name] = value
    return Options(**numbers)


def image_of(text, name):
    """Return an image that came as base64; raises BadRequestError. `transfer` decodes it."""
    try:
        data = base64.b64decode(text, validate=True)
        return PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP"))
    except (TypeError, ValueError, OSError):
        raise BadRequestError(f"{name} must be a JPEG, PNG or WebP image in base64") from None


class Handler(BaseHTTPRequestHandler):
    """The four requests of the module's docstring."""

    def do_POST(self):
        """Start a transfer."""
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MAX_BYTES:
                raise BadRequestError(f"a request has 1 to {MAX_BYTES} bytes of JSON")
            request = json.loads(self.rfile.read(length))
            if self.path != "/transfers" or not isinstance(request, dict):
                raise BadRequestError("POST a JSON object to /transfers")
            self.answer(202, {"id": self.server.submit(request)})
        except (BadRequestError, ValueError) as error:
            self.answer(400, {"error": str(error)})

    def do_GET(self):
        """Report on a transfer, or send its image."""
        found, image = self.find()
        if found is None:
            self.answer(404, {"error": "there is no such transfer"})
        elif not image:
            self.answer(200, found.report())
        elif found.image is None:
            self.answer(409, {"error": "there is no image yet"})
        else:
            buffer = io.BytesIO()
            found.image.save(buffer, "PNG")
            self.answer(200, buffer.getvalue(), "image/png")

    def do_DELETE(self):
        """Cancel a transfer."""
        found, image = self.find()
        if found is None or image:
            self.answer(404, {"error": "there is no such transfer"})
        else:
            found.cancel.set()
            self.answer(202, found.report())

    def find(self):
        """Return the transfer that the path names, or None, and whether its image is meant."""
        match = re.fullmatch(r"/transfers/(\d+)(/image)?", self.path)
        return (self.server.transfers.get(match[1]), bool(match[2])) if match else (None, False)

    def answer(self, status, body, kind="application/json"):
        """Send JSON, or bytes of some kind."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Log nothing."""


def main():
    """Serve until interrupted."""
    with Service(("127.0.0.1", 8000)) as service:
        print("listening on http://127.0.0.1:8000", file=sys.stderr)
        try:
            service.serve_forever()
        except KeyboardInterrupt:
            print("stopping", file=sys.stderr)


if __name__ == "__main__":
    main()
