"""Sessions of ONNX Runtime: opening the graphs of a model folder, and running them so that they can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnxruntime as ort

from vlrun.errors import DamagedModel, InferenceCancelled, ModelChanged, reason_of
from vlrun.layout import ONNX
from vlrun.models.model_folder import ModelFolder

POLL_SECONDS = 0.05
"""Interval at which a running inference checks for cancellation."""
ONLY_FATAL = 4
"""Log level: what fails is raised, and need not be printed too."""
PROVIDERS = ["CPUExecutionProvider"]


class _Inference(threading.Thread):
    """One inference in a thread of its own, which costs 0.1 ms: ONNX Runtime calls nothing back while it runs."""

    def __init__(self, session: ort.InferenceSession, binding: ort.IOBinding, options: ort.RunOptions) -> None:
        super().__init__(name="vlrun-inference", daemon=True)
        self._session, self._binding, self._options = session, binding, options
        self.error: BaseException | None = None

    def run(self) -> None:
        """Run it, and keep its error."""
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except BaseException as error:  # noqa: BLE001 - raised by the waiting thread
            self.error = error

    def runs_after(self, seconds: float) -> bool:
        """Wait for its end, but not longer; return whether it still runs."""
        self.join(seconds)
        return self.is_alive()


@dataclass(frozen=True)
class GraphSession:
    """An opened graph. ``name``: for errors. ``weights``: the file of its weights."""

    session: ort.InferenceSession
    folder: ModelFolder
    name: str
    weights: str

    def run(self, binding: ort.IOBinding, stopped: Callable[[], bool], *, shrink: bool = False) -> None:
        """Run bound inputs once.

        Args:
            binding: Inputs and outputs.
            stopped: Whether to give up.
            shrink: Whether to give the memory of the intermediate results back to the system afterwards.

        Raises:
            InferenceCancelled: When ``stopped``, within ``POLL_SECONDS`` and the time of one operator.
            ModelChanged: The file of the weights was changed.
        """
        options = ort.RunOptions()
        options.log_severity_level = ONLY_FATAL
        if shrink:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.folder.check_unchanged(self.weights)  # a shorter file would end the process
        inference = _Inference(self.session, binding, options)
        inference.start()
        try:
            while inference.runs_after(POLL_SECONDS):
                if stopped():
                    raise InferenceCancelled
        except BaseException:  # the bound memory must outlive the inference
            options.terminate = True
            inference.join()
            raise
        if inference.error:
            raise inference.error
        self.folder.check_unchanged(self.weights)


def open_graph(
    folder: ModelFolder, graph: str, threads: int | None, ports: Mapping[str, Sequence[int]]
) -> GraphSession:
    """Open a graph of a model folder.

    Args:
        folder: The opened model folder.
        graph: Name of the graph.
        threads: Threads of an inference; None for all cores.
        ports: Shapes of the ports that the manifest implies; -1 is any size.

    Raises:
        DamagedModel: The graph cannot be read, or does not match the manifest.
        ModelChanged: A file was replaced since the folder was opened.
    """
    file, weights = ONNX.graph_file(graph), ONNX.weights_file(graph)
    path, beside = folder.named_path(file), folder.named_path(weights)
    if path is None or beside is None:  # the graph names its weights, which lie in the same folder
        raise ModelChanged(f"{file} in '{folder.name}' was replaced while the model was loaded: load it again")
    name = f"'{file}' in '{folder.name}'"
    try:
        session = ort.InferenceSession(path, session_options(threads), providers=PROVIDERS)
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        folder.check_unchanged(file, weights)
        raise DamagedModel(f"ONNX Runtime cannot read {name} ({reason_of(error)}): export or copy it again") from error
    folder.check_unchanged(file, weights)
    _check_ports(session, ports, name)
    return GraphSession(session, folder, name, weights)


def session_options(threads: int | None) -> ort.SessionOptions:
    """Return the options of all sessions."""
    options = ort.SessionOptions()
    options.log_severity_level = ONLY_FATAL
    if threads:
        options.intra_op_num_threads = threads
    options.enable_mem_pattern = False  # shapes change with every pass
    # Between inferences the threads sleep: another session and the engine need the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _check_ports(session: ort.InferenceSession, expected: Mapping[str, Sequence[int]], name: str) -> None:
    """Raise DamagedModel unless the ports are those of ``expected``; the graph may have further outputs."""
    inputs = {port.name: port.shape for port in session.get_inputs()}
    outputs = {port.name: port.shape for port in session.get_outputs()}
    wrong = inputs.keys() - expected.keys()
    for port, shape in expected.items():
        found = inputs.get(port, outputs.get(port))
        pairs = None if found is None or len(found) != len(shape) else zip(shape, found, strict=True)
        if pairs is None or any(size not in (-1, given) for size, given in pairs):
            wrong.add(port)
    if wrong:
        raise DamagedModel(f"{name} does not match its manifest ('{min(wrong)}'): export or copy it again")
