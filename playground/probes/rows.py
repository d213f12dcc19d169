"""The rows of a task that probes run on: the first rows of its fixed test set."""

from tasks.base import Batch, Task

MOST_TOKENS = 128
ROWS = 16


def probe_batch(task: Task, rows: int = ROWS, most_tokens: int = MOST_TOKENS) -> Batch:
    """`rows` test rows, cut to their first `most_tokens` tokens, on the CPU."""
    return cut(task.test_batch(rows), most_tokens)


def cut(batch: Batch, most_tokens: int) -> Batch:
    """The first `most_tokens` positions of every row; `info`, which describes whole rows, is not cut."""
    return Batch(
        tokens=batch.tokens[:, :most_tokens],
        loss_mask=batch.loss_mask[:, :most_tokens],
        score_mask=batch.score_mask[:, :most_tokens],
        documents=batch.documents[:, :most_tokens],
        info=batch.info,
        places=None if batch.places is None else batch.places[:, :most_tokens],
    )
