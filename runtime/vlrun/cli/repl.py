"""What the lines of a chat do: questions, and commands that begin with a slash. Knows no terminal but to print on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from vlrun.cli import output as report
from vlrun.cli.images import NO_IMAGE_OPTIONS, ImageOptions, LoadedImage, open_images, untold
from vlrun.cli.terminal import printable
from vlrun.errors import OptionError, VlrunError

if TYPE_CHECKING:
    from vlrun.tasks.request import TaskRequest
    from vlrun.types.answer import Answer
    from vlrun.types.options import Options
    from vlrun.vlm import VLM

HELP = """\
/image FILE...       show images with the next question
/region X,Y,W,H      show a part of the last image with it
/task NAME [A,B]     ask as `vlrun ask --task` does
/clear               forget the conversation
/save FILE           write it to a file, images and all
/load FILE           go on with one
/stats               times and tokens of the last answer
/exit                leave, as Ctrl+D does
A line that ends in \\ goes on, and so does all between \"\"\" and \"\"\". Ctrl+C stops an answer."""


class Repl:
    """A conversation that is typed. ``left``: the user wants to go."""

    def __init__(self, vlm: VLM, options: Options) -> None:
        from vlrun.conversation import Conversation

        self.left = False
        self._vlm = vlm
        self._options = options
        self._conversation = Conversation(vlm, options=options)
        self._waiting: list[LoadedImage] = []
        self._last_name: str | None = None
        self._answer: Answer | None = None
        self._commands: Mapping[str, Callable[[Sequence[str]], None]] = {
            "/image": self._image,
            "/region": self._region,
            "/task": self._task,
            "/clear": self._clear,
            "/save": self._save,
            "/load": self._load,
            "/stats": self._stats,
            "/help": self._help,
            "/exit": self._exit,
        }

    def run(self, line: str) -> None:
        """Do what a line says. Faults are told, and the conversation goes on."""
        try:
            if line.strip().startswith("/"):
                self._command(line.strip())
            elif line.strip():
                self._ask(line, self._options)
        except VlrunError as error:
            self._say(str(error))
        except KeyboardInterrupt:
            self._say("stopped")

    def close(self) -> None:
        """Stop the model."""
        self._vlm.close()

    def _command(self, line: str) -> None:
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            raise OptionError(f"that line cannot be read: {error}") from None
        if name not in self._commands:
            raise OptionError(f"there is no {name}; /help lists what there is")
        self._commands[name](words)

    def _ask(self, question: str, options: Options, inquiry: TaskRequest | None = None) -> None:
        """Ask, and print the answer as it comes; that of a task that adds up, when it is whole."""
        from vlrun.tasks.request import finish, single
        from vlrun.types.answer import last_of

        shown, before = self._waiting, self._conversation.turns
        self._waiting = []
        try:
            with closing(self._conversation.stream(question, [one.image for one in shown], options)) as chunks:
                if inquiry is not None and inquiry.summed:
                    result = finish(single(last_of(chunks)), inquiry)
                    report.print_text(result.text)
                    report.tell(replace(result, notes=untold(result.notes, shown)))
                    self._answer = result.answers[0]
                else:
                    self._answer = report.print_stream(chunks)
        finally:
            if self._conversation.turns is before:  # nothing was kept: the images wait for the next question
                self._waiting = [*shown, *self._waiting]
        if self._answer.finish_reason != "stop":
            self._say(f"the answer was cut short ({self._answer.finish_reason})")

    def show(self, names: Sequence[str], focus: ImageOptions = NO_IMAGE_OPTIONS) -> None:
        """Show images with the next question. Raises MediaError and OptionError."""
        shown = open_images(names, focus)
        self._waiting += shown
        self._last_name = names[-1]
        sizes = ", ".join("{} x {}".format(*one.image.size) for one in shown)
        self._say(f"the next question shows {sizes}")

    def _image(self, words: Sequence[str]) -> None:
        if not words:
            raise OptionError("/image needs the name of a file")
        self.show(words)

    def _region(self, words: Sequence[str]) -> None:
        if self._last_name is None:
            raise OptionError("there is no image yet: /image FILE shows one")
        self.show([self._last_name], ImageOptions("".join(words)))

    def _task(self, words: Sequence[str]) -> None:
        from vlrun.prompt.builder import image_count
        from vlrun.tasks.definition import NO_ARGUMENTS, TaskArguments, find, split_names
        from vlrun.tasks.request import TaskRequest, check_images

        if not words:
            raise OptionError("/task needs a name, and for some tasks what to look for: /task count bottle,can")
        task, names = find(words[0]), NO_ARGUMENTS
        if len(words) > 1:
            listed = split_names(" ".join(words[1:]))
            names = TaskArguments(fields=listed) if task.fields != "none" else TaskArguments(items=listed)
        inquiry = TaskRequest(task=task, names=names)
        check_images(inquiry, len(self._waiting) + sum(map(image_count, self._conversation.turns)))
        given = self._options
        options = replace(  # other visual tokens would have all images so far encoded again
            inquiry.options(given),
            min_image_tokens=given.min_image_tokens,
            auto_image_tokens=given.auto_image_tokens,
        )
        self._ask(inquiry.questions()[-1], options, inquiry)

    def _clear(self, _: Sequence[str]) -> None:
        self._conversation.clear()
        self._waiting = []
        self._say("a new conversation")

    def _save(self, words: Sequence[str]) -> None:
        self._conversation.save(_one(words, "/save"))
        self._say(f"saved {len(self._conversation.turns)} turns")

    def _load(self, words: Sequence[str]) -> None:
        self._conversation.load(_one(words, "/load"))
        self._waiting = []
        self._say(f"loaded {len(self._conversation.turns)} turns")

    def _stats(self, _: Sequence[str]) -> None:
        self._say("nothing was answered yet" if self._answer is None else f"\n{report.stats([self._answer])}")

    def _help(self, _: Sequence[str]) -> None:
        click.echo(HELP, err=True)

    def _exit(self, _: Sequence[str]) -> None:
        self.left = True

    @staticmethod
    def _say(words: str) -> None:
        click.echo(printable(f"vlrun: {words}"), err=True)


def _one(words: Sequence[str], command: str) -> str:
    if len(words) != 1:
        raise OptionError(f"{command} needs the name of one file")
    return words[0]
