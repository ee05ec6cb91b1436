"""Runs the lines of a chat: questions, and commands that begin with a slash."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vlrun.cli.answer_progress import AnswerProgress
from vlrun.cli.images import ImageOptions, LoadedImage, image_notes, image_parts, load_images, read_image_headers
from vlrun.cli.model_choice import choose_model
from vlrun.cli.output import (
    NotePrinter,
    format_stats,
    print_notes,
    print_stream,
    print_text,
    shows_thinking,
    stdout_is_file,
    with_notes,
    with_reasoning_note,
)
from vlrun.cli.progress_line import ProgressLine
from vlrun.cli.terminal import print_error, print_note
from vlrun.errors import OptionError, VlrunError

if TYPE_CHECKING:
    from vlrun.cli.options import ModelOptions
    from vlrun.media.clip import Clip
    from vlrun.media.video import PendingClip
    from vlrun.media.video import Progress as VideoProgress
    from vlrun.tasks.request import TaskRequest
    from vlrun.types.answer import Answer, Chunk
    from vlrun.types.options import Options
    from vlrun.types.turn import Turn

HELP = """\
/image FILE...       add images to the next question
/region X,Y,W,H      add a region of the last image
/task NAME [A,B]     run a task, as `vlrun ask --task` does
/clear               start a new conversation
/save FILE           save the conversation with its images
/load FILE           load a saved conversation
/model [NAME|DIR]    show the model, or go on with another one
/stats               timings and tokens of the last answer
/help                this list
/exit, /quit, exit   exit, like Ctrl+D
Tab completes commands and names. End a line with \\ to continue it, or put several lines between \"\"\" and \"\"\".
Ctrl+C stops an answer."""
COMMANDS = dict.fromkeys(("/image", "/save", "/load"), "files") | {"/model": "models", "/task": "tasks"}
COMMANDS |= dict.fromkeys(("/region", "/clear", "/stats", "/help", "/exit", "/quit"), "")
"""The commands, and what the words after each are (``line_editor``)."""
EXIT = frozenset(("exit", "quit"))
"""Questions that exit, as in other programs."""


class Repl:
    """An interactive conversation. ``exited`` becomes true with ``/exit``. Raises as ``ModelOptions.load``."""

    def __init__(
        self,
        model_options: ModelOptions,
        options: Options,
        line: ProgressLine,
        system: str | None = None,
        show_thinking: bool = True,
    ) -> None:
        self.exited = False
        self._options = replace(options, progress=line.active)
        self._show_thinking = show_thinking
        self._line = line
        self._system = system
        self._load_model(model_options)
        self._new_images: list[LoadedImage] = []
        self._last_name: str | None = None
        self._notes = NotePrinter()
        self._answer: Answer | None = None
        self._commands: Mapping[str, Callable[[Sequence[str]], None]] = {
            "/image": self._image,
            "/region": self._region,
            "/task": self._task,
            "/clear": self._clear,
            "/save": self._save,
            "/load": self._load,
            "/model": self._model,
            "/stats": self._stats,
            "/help": lambda _: print_error(HELP),
            "/exit": self._exit,
            "/quit": self._exit,
        }

    def run(self, line: str) -> None:
        """Run a command or ask a question. Errors are printed, and the conversation continues."""
        try:
            if line.strip() in EXIT:
                self.exited = True
            elif line.strip().startswith("/"):
                self._command(line.strip())
            elif line.strip():
                self._ask(line, self._options)
        except VlrunError as error:
            print_note(str(error))
        except KeyboardInterrupt:
            print_note("stopped")

    def add_images(self, names: Sequence[str], options: ImageOptions | None = None) -> None:
        """Add images to the next question. Raises MediaError and OptionError."""
        from vlrun.prompt.builder import clip_count

        _check_names(names)
        with self._line.cleared_after():
            pending = read_image_headers(names, options)
            images = load_images(
                pending,
                options or ImageOptions(),
                self._line,
                open_clip=partial(self._open_clip, among=clip_count(pending)),
            )
        self._new_images += images
        self._notes.skip(image_notes(images))
        self._last_name = names[-1]
        sizes = ", ".join("{} x {}".format(*loaded.image.size) for loaded in images)
        print_note(f"added to the next question: {sizes}")

    def _open_clip(self, pending: PendingClip, progress: VideoProgress, among: int) -> Clip:
        from vlrun.media.clip import Clip
        from vlrun.prompt.builder import clips_of

        new = [one.image for one in self._new_images if isinstance(one.image, Clip)]
        before = [*clips_of(self._conversation.turns), *new]
        context = self._vlm.known_context
        return self._vlm.builder.open_clip(pending, self._options, context, progress, among, before)

    def _command(self, line: str) -> None:
        try:
            name, *words = shlex.split(line)
        except ValueError as error:
            raise OptionError(f"cannot parse the line: {error}") from None
        if name not in self._commands:
            raise OptionError(f"there is no command {name}; /help lists the commands")
        self._commands[name](words)

    def _ask(self, question: str, options: Options, request: TaskRequest | None = None) -> None:
        """Stream the answer; an answer whose total may be corrected is printed when complete."""
        from vlrun.types.answer import last_of

        images, turns = self._new_images, self._conversation.turns
        self._new_images = []
        try:
            with closing(self._answers(question, images, options, request)) as chunks:
                if request is not None and request.has_total:
                    result = request.result_of(last_of(with_notes(chunks, self._notes)))
                    print_text(result.text)
                    result = replace(result, notes=with_reasoning_note(result))
                    print_notes(result, NotePrinter(result.answers[0].notes))
                    self._answer = result.answers[0]
                else:
                    self._answer = print_stream(chunks, self._notes, self._show_thinking)
        finally:
            if self._conversation.turns is turns:  # the question failed: keep its images for the next one
                self._new_images = [*images, *self._new_images]
        if self._answer.finish_reason != "stop":
            print_note(f"the answer was cut short ({self._answer.finish_reason})")

    def _answers(
        self, question: str, images: Sequence[LoadedImage], options: Options, request: TaskRequest | None
    ) -> Generator[Chunk]:
        """Return the stream of an answer, and show its progress."""
        streamed = request is None or not request.has_total
        self._progress.preparing()
        with self._line.cleared_after():
            chunks = self._conversation.stream(question, [one.image for one in images], options)
        thinking_shown = streamed and shows_thinking(self._show_thinking)
        text_shown = streamed and not stdout_is_file()
        parts = sum(image_parts(loaded.image) for loaded in images)
        return self._progress.watch(chunks, parts, text_shown=text_shown, thinking_shown=thinking_shown)

    def _load_model(self, model_options: ModelOptions, turns: tuple[Turn, ...] = (), wait: bool = False) -> None:
        """Load a model and go on with these turns. ``wait`` raises the errors of loading here, not at a question."""
        from vlrun.conversation import Conversation

        began = time.monotonic()
        with self._line.cleared_after():
            vlm = model_options.load(self._line)
            try:
                if wait:
                    vlm.wait()
            except BaseException:
                vlm.close()
                raise
        self._vlm = vlm
        self._conversation = Conversation(vlm, system=self._system, options=self._options)
        self._conversation.turns = turns or self._conversation.turns
        self._model_options = model_options
        self._progress = AnswerProgress(self._line, vlm, str(model_options.hints), began)

    def close(self) -> None:
        """Close the model."""
        self._vlm.close()

    def _image(self, words: Sequence[str]) -> None:
        if not words:
            raise OptionError("/image needs a file name")
        self.add_images([os.path.expanduser(word) for word in words])  # noqa: PTH111 - a URL is no path

    def _region(self, words: Sequence[str]) -> None:
        if self._last_name is None:
            raise OptionError("there is no image yet: add one with /image FILE")
        self.add_images([self._last_name], ImageOptions.parse("".join(words)))

    def _task(self, words: Sequence[str]) -> None:
        from vlrun.prompt.builder import image_count
        from vlrun.tasks.definition import NO_ARGUMENTS, TaskArguments, find_task, split_names
        from vlrun.tasks.request import TaskRequest

        if not words:
            raise OptionError("/task needs a name, and for some tasks a list: /task count bottle,can")
        task, arguments = find_task(words[0]), NO_ARGUMENTS
        if len(words) > 1:
            names = split_names(" ".join(words[1:]))
            arguments = TaskArguments(fields=names) if task.fields != "none" else TaskArguments(items=names)
        request = TaskRequest(task=task, arguments=arguments)
        request.check_image_count(len(self._new_images) + sum(map(image_count, self._conversation.turns)))
        given = self._options
        options = replace(  # other limits would encode all earlier images again
            request.options(given),
            min_image_tokens=given.min_image_tokens,
            auto_image_tokens=given.auto_image_tokens,
        )
        self._ask(request.questions()[-1], options, request)

    def _clear(self, _: Sequence[str]) -> None:
        self._conversation.clear()
        self._new_images = []
        print_note("started a new conversation")

    def _save(self, words: Sequence[str]) -> None:
        self._conversation.save(_path(words, "/save"))
        print_note(f"saved {len(self._conversation.turns)} turns")

    def _load(self, words: Sequence[str]) -> None:
        self._conversation.load(_path(words, "/load"))
        self._new_images = []
        print_note(f"loaded {len(self._conversation.turns)} turns")

    def _stats(self, _: Sequence[str]) -> None:
        if self._answer is None:
            print_note("there is no answer yet")
        else:
            print_error(format_stats([self._answer], self._described, self._vlm.settings))

    @property
    def _described(self) -> str:
        return self._model_options.model.describe(self._vlm.manifest.name)

    def _model(self, words: Sequence[str]) -> None:
        from vlrun.conversation import as_text
        from vlrun.models.model_folder import ModelFolder

        if not words:
            print_note(self._described)
            return
        former, choice = self._model_options, choose_model(_path(words, "/model"))
        ModelFolder(choice.path)  # raises ModelError while the former model is still there
        turns = self._conversation.turns
        self._vlm.close()
        del self._vlm, self._conversation, self._progress  # there may be no memory for two models
        try:
            self._load_model(replace(former, model=choice), tuple(map(as_text, turns)), wait=True)
        except BaseException:  # also Ctrl+C while a large model is loaded: the chat goes on
            self._load_model(former, turns)
            raise
        self._answer = None
        print_note(f"going on with {self._described}")

    def _exit(self, _: Sequence[str]) -> None:
        self.exited = True


def _path(words: Sequence[str], command: str) -> str:
    if len(words) != 1:
        raise OptionError(f"{command} needs one name, in quotes if it has spaces")
    _check_names(words)
    return os.path.expanduser(words[0])  # noqa: PTH111 - Path.expanduser raises if there is no home


def _check_names(names: Sequence[str]) -> None:
    if "-" in names:
        raise OptionError("- is no file in a chat, whose stdin and stdout have the conversation")
