"""``GET /v1/tasks``: what requests may name as their task."""

from __future__ import annotations

from collections.abc import Mapping

from vlrun.server.api.answers import Json
from vlrun.tasks.definition import Task


def task_list(tasks: Mapping[str, Task]) -> Json:
    """The tasks with what each needs: ``items`` or ``fields``, and a number of ``images``.

    ``structured``: the answer is JSON; ``merge``: how answers about tiles become one.
    """
    data = [
        {
            "id": name,
            "object": "task",
            "about": task.about,
            "items": task.items,
            "fields": task.fields,
            "images": task.images,
            "structured": task.schema is not None,
            "merge": task.merge,
        }
        for name, task in tasks.items()
    ]
    return {"object": "list", "data": data}
