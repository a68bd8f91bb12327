"""The defaults and the limits of `gramstyle serve`, by the names of its options."""

from gramstyle.serve.limits import Limits

HOST, PORT = "127.0.0.1", 8000
# The environment variable with the token, which other users cannot read as they can an argument.
TOKEN_VARIABLE = "GRAMSTYLE_TOKEN"  # noqa: S105 - a name
# A shorter token could be guessed.
SHORTEST_TOKEN = 16

DEFAULTS = Limits()
# The limits by the names of their options.
LIMITS = {
    "max_upload": ("upload_bytes", "SIZE", "the largest file of an image, like 32MB"),
    "max_pixels": ("pixels", "N", "the largest image in pixels, width × height"),
    "max_size": ("size", "PIXELS", "the longest edge of a result"),
    "max_iterations": ("iterations", "N", "the largest number of iterations of a job"),
    "max_styles": ("styles", "N", "the largest number of style images of a job"),
    "max_seconds": ("seconds", "N", "the longest time of a job, which then ends with its image so "
                    "far"),
    "queue": ("queue", "N", "how many jobs may wait; further ones are refused for the moment"),
    "keep": ("results", "N", "how many ended jobs are kept; the oldest are removed"),
    "keep_uploads": ("uploads", "SIZE", "the size of all uploads that no job uses; the oldest are "
                     "removed"),
    "storage": ("storage", "SIZE", "the size of all files in the data folder; then uploads and "
                "jobs are refused"),
    "retries": ("retries", "N", "how often a job that gets no further starts again after its "
                "process has died"),
    "watchers": ("watchers", "N", "how many clients may watch jobs at the same time"),
}  # fmt: skip
