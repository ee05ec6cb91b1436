// Types of the HTTP API, as far as the page uses it. docs/service.md and /docs describe all of it.

/**
 * @typedef {object} Region A part of a picture, in thousandths of its width and height.
 * @property {number} x
 * @property {number} y
 * @property {number} width
 * @property {number} height
 */

/**
 * @typedef {object} Mark A box or a point of an answer, in pixels of the upright image.
 * @property {string} [label]
 * @property {[number, number, number, number]} [box] left, top, right, bottom
 * @property {[number, number]} [point] x, y
 * @property {number} [start] Its first character in the answer.
 * @property {number} [end] The character after its last one.
 * @property {number} [image] The index of the picture in the request.
 */

/** @typedef {[number, number]} Corner x and y in pixels of the upright image. */

/**
 * @typedef {object} HeatMapImage
 * @property {number} rows
 * @property {number} columns
 * @property {number} max
 * @property {string} values Base64 of one byte for each token, row and column, scaled to `max`.
 * @property {[Corner, Corner, Corner]} corners Its top left, top right and bottom left.
 */

/**
 * @typedef {object} HeatMap
 * @property {HeatMapImage[]} images
 * @property {string[]} tokens
 */

/** @typedef {Record<string, Record<string, number>>} Votes Of each value of a JSON answer: how many votes it got. */

/**
 * @typedef {object} Progress
 * @property {"vision" | "prefill" | "votes"} phase
 * @property {number} done
 * @property {number} total
 * @property {number} percent
 */

/**
 * @typedef {object} TimeSpan A part of a video in seconds; a moment if it ends where it starts.
 * @property {number} start
 * @property {number} end
 */

/**
 * @typedef {object} Extension The field `vlrun` of a choice or a chunk.
 * @property {string[]} [notes]
 * @property {unknown} [value]
 * @property {Mark[]} [marks]
 * @property {Votes[]} [votes]
 * @property {string[]} [reasoning]
 * @property {HeatMap} [heatmap]
 * @property {TimeSpan[]} [times] Moments and parts of the last video that the answer names.
 * @property {Progress} [progress]
 * @property {string} [finish_reason]
 */

/**
 * @typedef {object} Usage
 * @property {number} prompt_tokens
 * @property {number} completion_tokens
 * @property {{cached_tokens?: number, image_tokens?: number}} [prompt_tokens_details]
 */

/** @typedef {Record<string, number>} Timings Seconds of each part of an answer. */

/**
 * @typedef {object} Chunk A chunk of a streamed chat completion.
 * @property {{index: number, delta: {content?: string, reasoning_content?: string}, finish_reason?: string | null,
 *   vlrun?: Extension}[]} choices
 * @property {Usage} [usage]
 * @property {Timings} [timings]
 * @property {Extension} [vlrun]
 */

/**
 * @typedef {object} ImageObject The answer of `POST /v1/images`.
 * @property {string} id
 * @property {string} url What a request names the image by.
 * @property {number} bytes
 * @property {number} width Of the upright image.
 * @property {number} height
 * @property {{width: number, height: number}[]} [pages] Of a PDF file.
 * @property {{seconds: number, fps: number, frames: number}} [video] Of a video.
 * @property {number} [expires_at]
 */

/**
 * @typedef {object} TaskObject A task of `GET /v1/tasks`.
 * @property {string} id
 * @property {string} about
 * @property {"none" | "optional" | "required"} items
 * @property {"none" | "optional" | "required" | boolean | null} fields
 * @property {number} images The least number of pictures.
 * @property {boolean} structured Whether its answers are JSON.
 * @property {string | null} [merge]
 */

/**
 * @typedef {object} Readiness The answer of `GET /health/ready`.
 * @property {boolean} ready
 * @property {"ready" | "loading" | "stuck" | "stopping"} status
 * @property {string} model
 * @property {string} device
 * @property {{running: number, waiting: number, limit: number}} queue
 * @property {string[]} [notes]
 * @property {string} [version]
 * @property {number} [context]
 * @property {{resident_bytes?: number, available_bytes?: number}} [memory]
 * @property {boolean} [thinks]
 * @property {string[]} [inputs]
 * @property {{body_bytes: number, images: number, image_pixels: number, task_names: number, task_name_length: number}}
 *   [limits]
 */

export {};
