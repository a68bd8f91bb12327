"""`gramstyle transfer CONTENT STYLE -o OUT`."""

import argparse
import secrets
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import PIL.Image
from rich.console import Console

from gramstyle.cli.log import RunLog
from gramstyle.cli.parsing import Commands
from gramstyle.cli.progress import display
from gramstyle.errors import GramstyleError, ImageError, OptionError
from gramstyle.images import Picture, check_output, read_picture, write_picture
from gramstyle.options import STARTS, Options
from gramstyle.prepare import prepare
from gramstyle.transfer import Progress, Result, run

DEFAULTS = Options()


def add_parser(commands: Commands) -> None:
    """Describe the command and its options; every default is the one in `Options`."""
    parser = commands.add_parser(
        "transfer",
        help="render a photograph in the style of a painting",
        description="Render the photograph CONTENT in the style of the painting STYLE.",
        epilog="example: gramstyle transfer photo.jpg painting.jpg -o result.png --size 768",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("content", type=Path, metavar="CONTENT", help="the photograph")
    parser.add_argument("style", type=Path, metavar="STYLE", help="the painting")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT",
        help="the picture to write: .png, .jpg, .webp, .tif or .avif",
    )  # fmt: skip

    result = parser.add_argument_group("the picture")
    result.add_argument("--size", type=int, metavar="PIXELS",
        help=f"the longer edge of the result (default {DEFAULTS.size})")  # fmt: skip
    result.add_argument("--iterations", type=int, metavar="N",
        help=f"how long to work on it at the most (default {DEFAULTS.iterations})")  # fmt: skip
    result.add_argument("--tolerance", type=float, metavar="SHARE",
        help="end early once the loss has fallen by less than this share of itself in ten "
        f"iterations (default {DEFAULTS.tolerance:g})")  # fmt: skip
    result.add_argument("--init", metavar="|".join((*STARTS, "PATH")),
        help=f"the picture to start from (default {DEFAULTS.init})")  # fmt: skip
    result.add_argument("--seed", type=int, metavar="N",
        help=f"of the noise of --init noise (default {DEFAULTS.seed})")  # fmt: skip

    loss = parser.add_argument_group("the loss: alpha · content + beta · style")
    loss.add_argument("--alpha", type=float, metavar="A",
        help="the weight of the content; more keeps more of the photograph "
        "(default 50 / (width · height), alike at every size; 0.01 instead of 50 for a "
        "normalised network)")  # fmt: skip
    loss.add_argument("--beta", type=float, metavar="B",
        help=f"the weight of the style (default {DEFAULTS.beta:g})")  # fmt: skip
    loss.add_argument("--content-layer", metavar="LAYER",
        help=f"where content is compared (default {DEFAULTS.content_layer})")  # fmt: skip
    loss.add_argument("--style-layers", type=_names, metavar="LAYER,…",
        help=f"where style is compared (default {','.join(DEFAULTS.style_layers)})")  # fmt: skip
    loss.add_argument("--style-weights", type=_numbers, metavar="W,…",
        help="a weight for each style layer (default: all the same, 1 in sum)")  # fmt: skip
    loss.add_argument("--pooling", choices=("max", "avg"),
        help=f"max or average pooling in the network (default {DEFAULTS.pooling})")  # fmt: skip

    machine = parser.add_argument_group("files and the machine")
    machine.add_argument("--model", type=Path, metavar="FILE",
        help="the network (default: GRAMSTYLE_MODEL, the checkout's models/, the user's "
        "cache, where it is built if need be)")  # fmt: skip
    machine.add_argument("--threads", type=int, metavar="N",
        help="processor cores to use (default: all)")  # fmt: skip
    machine.add_argument("--max-pixels", type=int, metavar="N",
        help="refuse pictures with more pixels than this, unread "
        f"(default {DEFAULTS.max_pixels})")  # fmt: skip
    machine.add_argument("--save-every", type=int, metavar="N",
        help="also write the picture of every N-th iteration, as OUT-0010.png, …")  # fmt: skip
    machine.add_argument("--log", type=Path, metavar="FILE.jsonl",
        help="write settings and losses as JSON lines")  # fmt: skip
    machine.add_argument("--quiet", action="store_true", help="print nothing but errors")


def run_command(arguments: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    output: Path = arguments.output
    options = _options(arguments)
    inputs = [arguments.content, arguments.style]
    if options.init not in STARTS:
        inputs.append(Path(str(options.init)))
    _check_paths(arguments, inputs)

    say = Console(stderr=True, quiet=arguments.quiet)
    prepared = prepare(
        arguments.content,
        arguments.style,
        options,
        model=arguments.model,
        notify=lambda sentence: say.print(sentence, soft_wrap=True, markup=False),
    )
    latest: Progress | None = None

    with (
        RunLog(arguments.log) as log,
        display(prepared.weights, say, quiet=arguments.quiet) as show,
    ):
        log.start(prepared.settings)

        def after_iteration(progress: Progress) -> None:
            nonlocal latest
            latest = progress
            show(progress)
            log.iteration(progress.losses)
            iteration = progress.losses.iteration
            if arguments.save_every and iteration % arguments.save_every == 0:
                _write(_numbered(output, iteration), progress.picture(), dict(prepared.settings))

        try:
            result = run(prepared, callback=after_iteration)
        except (GramstyleError, KeyboardInterrupt) as stop:
            raise _stopped(stop, latest, output, dict(prepared.settings)) from None
        log.end(result.record.summary)
    _save(output, result.picture, {**result.record.settings, "result": result.record.summary})
    if not arguments.quiet:
        _report(output, result)


def _options(arguments: argparse.Namespace) -> Options:
    """Return the options that were given, over the defaults."""
    names = Options.__dataclass_fields__
    given = {k: v for k, v in vars(arguments).items() if k in names and v is not None}
    return Options(**given)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 0.2,0.2,0.6") from None


def _check_paths(arguments: argparse.Namespace, inputs: list[Path]) -> None:
    """Refuse to start on what could not be written at the end, or would overwrite an input."""
    check_output(arguments.output, inputs)
    if arguments.save_every is not None:
        if arguments.save_every < 1:
            raise OptionError(f"--save-every must be at least 1, not {arguments.save_every}")
        # The numbered pictures can meet an input only where one is called like them.
        stem = arguments.output.stem
        for existing in arguments.output.parent.glob(f"*{arguments.output.suffix}"):
            if existing.name.startswith(f"{stem}-"):
                check_output(existing, inputs)
    if arguments.log is not None:
        used = [*inputs, arguments.output, *([arguments.model] if arguments.model else [])]
        if arguments.log.resolve() in {path.resolve() for path in used}:
            raise OptionError(
                f"--log {arguments.log} is one of the pictures or the model; choose another name"
            )


def _numbered(output: Path, iteration: int) -> Path:
    return output.with_name(f"{output.stem}-{iteration:04d}{output.suffix}")


def _write(path: Path, picture: PIL.Image.Image, settings: dict[str, Any]) -> None:
    write_picture(path, _pixels(picture), settings=settings)


def _pixels(picture: PIL.Image.Image) -> Picture:
    return read_picture(picture, max_pixels=picture.width * picture.height)


def _save(output: Path, picture: PIL.Image.Image, settings: dict[str, Any]) -> None:
    """Write a picture that must not be lost; where that fails, to the folder for passing files."""
    try:
        _write(output, picture, settings)
    except ImageError as error:
        spare = Path(tempfile.gettempdir()) / f"{output.stem}-{secrets.token_hex(4)}{output.suffix}"
        try:
            _write(spare, picture, settings)
        except ImageError:
            raise error from None
        raise ImageError(f"{error} (the picture is kept as {spare})") from None


def _stopped(
    stop: BaseException, latest: Progress | None, output: Path, settings: dict[str, Any]
) -> BaseException:
    """Save the picture so far and return the same interruption, saying what became of it."""
    reason = str(stop) or "stopped"
    if latest is None:
        return type(stop)(f"{reason} before the first iteration; nothing was written")
    iteration = latest.losses.iteration
    settings["result"] = {"iterations": iteration, "loss": latest.losses.loss, "reason": reason}
    _save(output, latest.picture(), settings)
    return type(stop)(f"{reason}; the picture of iteration {iteration} is in {output}")


def _report(output: Path, result: Result) -> None:
    took = timedelta(seconds=round(result.record.seconds))
    done = result.record.losses[-1].iteration
    width, height = result.picture.size
    print(  # noqa: T201 - the program's one line of output
        f"wrote {output} ({width}×{height}) after {done} iterations in {took}: "
        f"{result.record.reason}"
    )
