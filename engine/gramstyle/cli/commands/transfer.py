"""`gramstyle transfer CONTENT STYLE [STYLE …] -o OUT`."""

import argparse
from pathlib import Path

from gramstyle.cli import arguments as add
from gramstyle.cli.parsing import Commands
from gramstyle.cli.pipes import input_images, path_or_dash, refuse_dash
from gramstyle.cli.running.performing import check_files, perform
from gramstyle.cli.speaking import Speaker
from gramstyle.errors import OptionError
from gramstyle.run.checkpoint import check_folder, owned
from gramstyle.run.options import STARTS
from gramstyle.run.plan import plan_run
from gramstyle.run.recipes import Recipe, read_recipe
from gramstyle.run.resume.checkpointer import Checkpointer, check_can_be_saved, check_replaceable

# After how many iterations a checkpoint is saved by default.
EVERY = 10


# What the first screen of the help shows.
SCREEN = {
    "the look": ["--preset", "--content-strength", "--style-scale", "--style-blend", "--colours"],
    "the result": ["--output", "--size", "--iterations"],
    "the run": ["--recipe", "--device"],
}


def add_parser(commands: Commands, summary: str) -> None:
    """Describe the command and its options."""
    parser = commands.add_parser(
        "transfer",
        help=summary,
        usage="gramstyle transfer CONTENT STYLE [STYLE …] -o OUT [options]",
        description="Render the photograph CONTENT in the style of the painting STYLE, or of "
        "several.",
        epilog="example: gramstyle transfer photo.jpg painting.jpg -o result.png --size 768",
    )
    parser.set_defaults(run=run_command)
    parser.add_argument("content", type=path_or_dash, metavar="CONTENT",
        help="the photograph; -: from standard input")  # fmt: skip
    parser.add_argument("style", type=path_or_dash, nargs="+", metavar="STYLE",
        help="the painting, or several; -: from standard input")  # fmt: skip
    parser.optional_with("--recipe", {"content": "?", "style": "*"})
    add.add_output(parser, pipe=True)
    parser.show_first(SCREEN)
    add.add_look(parser)
    result = parser.add_argument_group("the image")
    add.add_run(result)
    add.add_scales(result, but=", with --convention paper or author of 512")
    add.add_init(result)
    add.add_storage(result)
    add.add_style(parser)
    add.add_regions(parser)
    add.add_loss(parser)
    machine = parser.add_argument_group("the machine")
    add.add_machine(machine)
    add.add_engine(machine)
    files = parser.add_argument_group("files")
    add.add_files(files)
    files.add_argument("--checkpoint", type=Path, metavar="DIR",
        help="save checkpoints of the run in this folder, which must be empty or hold a run that "
        "has ended; gramstyle resume DIR continues the run")  # fmt: skip
    files.add_argument("--every", type=int, metavar="N",
        help=f"save a checkpoint after every N-th iteration (default {EVERY})")  # fmt: skip
    add.add_live(files)
    add.add_quiet(files)


def run_command(arguments: argparse.Namespace) -> None:
    """Run the command."""
    recipe = Recipe(values={}) if arguments.recipe is None else read_recipe(arguments.recipe)
    options = add.options_with(recipe, arguments)
    images = _images(arguments, recipe)
    inputs = [*images]
    if options.start not in STARTS:
        inputs.append(Path(str(options.start)))
    inputs += add.mask_files(options)
    check_files(arguments, inputs, depth=options.depth)
    every, folder = EVERY if arguments.every is None else arguments.every, arguments.checkpoint
    if folder is not None:
        refuse_dash([*inputs, arguments.output], command="--checkpoint")
        check_can_be_saved(options)
    elif arguments.every is not None:
        raise OptionError("--every is for --checkpoint DIR; add that, or leave --every out")
    if every < 1:
        raise OptionError(f"--every must be at least 1, not {every}")
    say = Speaker(quiet=arguments.quiet)
    content, *styles = input_images(*images, max_pixels=options.max_pixels)
    plan = plan_run(content, styles, options, model=arguments.model, notify=say.tell)
    if folder is None:
        perform(plan, arguments, say)
        return
    check_folder(folder)
    with owned(folder):
        check_replaceable(folder, check_folder(folder))
        checkpointer = Checkpointer.beginning(folder, plan, arguments.output, every)
        perform(plan, arguments, say, checkpointer=checkpointer)


def _images(arguments: argparse.Namespace, recipe: Recipe) -> tuple[Path, ...]:
    """Return the content image and the style images: those given, else those of the recipe."""
    content = recipe.content if arguments.content is None else arguments.content
    styles = tuple(arguments.style) or recipe.styles
    for image, name, role in ((content, "content", "CONTENT"), (styles, "style", "STYLE")):
        if not image:
            raise OptionError(
                f"{arguments.recipe} names no {name} image; give {role}, or add a line {name} = ..."
            )
    return content, *styles
