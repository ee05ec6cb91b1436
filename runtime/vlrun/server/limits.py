"""Every limit of the service, as one value. ``vlrun serve --help`` and docs/service.md print them from here."""

from __future__ import annotations

from dataclasses import dataclass

from vlrun.media.decoding import MAX_SECONDS
from vlrun.tasks.definition import MAX_NAME_LENGTH, MAX_NAMES
from vlrun.types.options import MAX_STOP_LENGTH, MAX_STOP_STRINGS, MAX_TOKENS
from vlrun.types.turn import MAX_TOOLS

MIB = 2**20


@dataclass(frozen=True)
class ServerLimits:
    """The limits. Each of the first group has an option of ``vlrun serve``."""

    parallel: int = 4
    """Answers generated at once; each of a request's ``n`` counts."""
    queue: int = 16
    """Requests that may wait for their turn; more get 429."""
    deadline: float = 300.0
    """Seconds from a request's last byte to its answer's last, waiting included; then 504, or the stream's error."""
    drain: float = 30.0
    """Seconds for running answers to end when the service stops."""
    max_body_mib: int = 15
    """Size of a request, decompressed; more is 413."""
    max_images: int = 16
    """Images of a request, over all its messages; each page of a PDF counts."""
    max_megapixels: int = 50
    """Size of an image, by its header, before anything is decoded."""
    connections: int = 256
    """Open connections; for another one the longest silent one is closed, or an incomplete request of a client that has
    more of them, or it gets 503."""
    client_connections: int = 64
    """Of these, from one address (IPv6: one /64 network); for another one its longest silent one is closed, or it gets
    503. Behind a proxy, all clients have the proxy's address."""

    stored_images_mib: int = 128
    """Size of all images that are kept for later requests; the longest unused ones make room. A client has half."""
    stored_image_seconds: float = 1800.0
    """After which an image is forgotten that nothing has used."""

    bodies_mib: int = 256
    """Size of all requests that are being read or wait; more is 429."""
    client_bodies_mib: int = 128
    """Of these, from one client: address and key."""
    request_megapixels: int = 100
    """Size of all images of a request together."""
    max_pages: int = 2000
    """Pages of a PDF file, of which a request asks about ``max_images`` at most."""
    max_video_seconds: int = 600
    """Duration of a video."""
    max_frame_pixels: int = 4096 * 2304
    """Width x height of the frames of a video: 4K."""
    max_n: int = 8
    """Answers to a request; never more than ``parallel`` run at once."""
    heatmap_tokens: int = 8192
    """Tokens of an answer with a heat map, which takes 10 KB of memory for each at the highest detail."""
    max_task_answers: int = 32
    """Answers of a task: votes on all tiles, twice as many with steps; never more than ``parallel`` run at once."""
    max_messages: int = 512
    max_text: int = 1 * MIB
    """Characters of all text of a request."""
    max_schema_bytes: int = 64 * 1024
    max_top_logprobs: int = 20
    json_depth: int = 64
    """Nesting of a request's JSON."""
    header_bytes: int = 32 * 1024
    """Size of the request line and headers together; more is 431."""
    header_count: int = 100
    target_length: int = 4096
    """Characters of a request's path and query; more is 414."""
    header_seconds: float = 10.0
    """From the beginning of a connection or request to the end of its headers; then it is closed."""
    body_seconds: float = 30.0
    """From the end of the headers to the end of the body; then 408, and it is closed."""
    write_seconds: float = 30.0
    """For which a client may read nothing while data waits for it; then it is disconnected."""
    read_rate: int = 1024
    """Bytes a second that it must read, over ``write_seconds``: a byte now and then would keep a stream and a slot."""
    idle_seconds: float = 30.0
    """For which a connection may be idle between two requests."""

    @property
    def of_inputs(self) -> dict[str, int]:
        """What a client must know to make images and the names of tasks fit, as ``/health/ready`` reports it."""
        return {
            "body_bytes": self.max_body_mib * MIB,
            "images": self.max_images,
            "image_pixels": self.max_megapixels * 10**6,
            "task_names": MAX_NAMES,
            "task_name_length": MAX_NAME_LENGTH,
        }


def fixed_limits(limits: ServerLimits) -> list[tuple[str, str]]:
    """The limits without an option, as rows of a number and its meaning."""
    return [
        (f"{limits.bodies_mib} MiB", "for all requests being read or waiting; more is 429"),
        (f"{limits.client_bodies_mib} MiB", "for those of one client (address and key)"),
        (f"{limits.request_megapixels} megapixels", "for all images of a request; more is 400"),
        (f"{MAX_SECONDS:g} s", "of processor time to decode an image or to draw a page; more is 400"),
        (f"{limits.max_pages:,} pages", "of a PDF file; more is 400"),
        (f"{limits.max_video_seconds} s", "of a video; more is 400"),
        (f"{limits.max_frame_pixels:,} pixels", "of a video's frames, 4096 x 2304; more is 400"),
        (f"{limits.max_n} answers", "to a request (n)"),
        (f"{limits.max_task_answers} answers", "to a task (votes x tiles, twice as many with steps)"),
        (f"{limits.heatmap_tokens:,} tokens", "of an answer with a heat map"),
        (f"{limits.max_messages} messages", "in a request"),
        (f"{limits.max_text:,} characters", "of text in a request"),
        (f"{MAX_TOKENS:,} tokens", "of an answer without max_tokens; the context bounds all answers"),
        (f"{MAX_STOP_STRINGS} stop strings", f"of 1 to {MAX_STOP_LENGTH} characters"),
        (f"{MAX_TOOLS} tools", "in a request"),
        (f"{limits.max_schema_bytes // 1024} KiB", "for a JSON schema, and 0.6 s of processor time to compile it"),
        (f"{limits.max_top_logprobs} alternatives", "to a token (top_logprobs)"),
        (f"{limits.json_depth} levels", "of arrays and objects in a request"),
        (f"{limits.header_bytes // 1024} KiB", f"of headers, {limits.header_count} at most; more is 431"),
        (f"{limits.target_length:,} characters", "of path and query; more is 414"),
        (f"{limits.header_seconds:.0f} s", "for a request's headers; then the connection is closed"),
        (f"{limits.body_seconds:.0f} s", "for its body; then 408"),
        (f"{limits.write_seconds:.0f} s", "without the client reading; then it is disconnected"),
        (f"{limits.read_rate:,} bytes", "a second that a client must read while data waits; then it is disconnected"),
        (f"{limits.idle_seconds:.0f} s", "for an idle connection"),
    ]
