"""What the lines of a chat do: questions, and commands that begin with a slash. Knows no terminal but to print on."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from vlrun.cli import report
from vlrun.cli.pictures import Focus, Shown, open_pictures
from vlrun.cli.terminal import printable
from vlrun.errors import OptionError, VlrunError

if TYPE_CHECKING:
    from vlrun.answer import Answer, Options
    from vlrun.vlm import VLM

HELP = """\
/image FILE...       show pictures with the next question
/region X,Y,W,H      show a part of the last picture with it
/task NAME [A,B]     ask as `vlrun ask --task` does
/clear               forget the conversation
/save FILE           write it to a file, pictures and all
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
        self._waiting: list[Shown] = []
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

    def _ask(self, question: str, options: Options) -> None:
        shown, self._waiting = self._waiting, []
        try:
            chunks = self._conversation.stream(question, [one.picture for one in shown], options)
            self._answer = report.print_stream(chunks)
        except BaseException:
            turns = self._conversation.turns
            if not turns or turns[-1].role != "assistant":  # nothing was kept: the pictures wait for the next question
                self._waiting = [*shown, *self._waiting]
            raise
        if self._answer.finish_reason != "stop":
            self._say(f"the answer was cut short ({self._answer.finish_reason})")

    def _image(self, words: Sequence[str]) -> None:
        if not words:
            raise OptionError("/image needs the name of a file")
        self._show(open_pictures(words, Focus()), words[-1])

    def _region(self, words: Sequence[str]) -> None:
        if self._last_name is None:
            raise OptionError("there is no picture yet: /image FILE shows one")
        self._show(open_pictures([self._last_name], Focus("".join(words))), self._last_name)

    def _show(self, shown: Sequence[Shown], name: str) -> None:
        self._waiting += shown
        self._last_name = name
        sizes = ", ".join("{} x {}".format(*one.picture.size) for one in shown)
        self._say(f"the next question shows {sizes}")

    def _task(self, words: Sequence[str]) -> None:
        from vlrun.asking import Inquiry
        from vlrun.tasks import NO_NAMES, Names, find, split_names

        if not words:
            raise OptionError("/task needs a name, and for some tasks what to look for: /task count bottle,can")
        task, names = find(words[0]), NO_NAMES
        if len(words) > 1:
            given = split_names(" ".join(words[1:]))
            names = Names(fields=given) if task.fields != "none" else Names(items=given)
        inquiry = Inquiry(task=task, names=names)
        self._ask(inquiry.questions()[-1], inquiry.options(self._options))

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
