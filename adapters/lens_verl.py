"""verl with the rewards of `lens serve`: a custom reward function.

    reward.custom_reward_function.path=/path/to/adapters/lens_verl.py
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:8080

(older versions have no `reward.` before it). verl gives a reward function the response
without its prompt. The prompt is read from the row's `extra_info`, under the key `prompt`, or the one
that `reward_kwargs.prompt_key` names: a text, or chat messages. Put it there when the data is made:

    row["extra_info"]["prompt"] = row["prompt"]

A row without it is refused: a reward of a response to nobody's question would mean nothing. Standard
library only.
"""

import asyncio
import functools
import os
import sys

if os.path.dirname(os.path.abspath(__file__)) not in sys.path:
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))

from lens_reward import LensError, RewardClient

# One client for each server, so that connections are kept from call to call.
_client = functools.lru_cache(maxsize=None)(RewardClient)


def compute_score(
    data_source,
    solution_str,
    ground_truth,
    extra_info=None,
    *,
    url=None,
    model=None,
    prompt_key="prompt",
    normalised=False,
    **others,
):
    """The reward of `solution_str`, as verl takes it: `{"score", "deviation"}`, and where the model
    measures it `"out_of_distribution"` (1.0 or 0.0), which verl logs. `data_source`, `ground_truth` and
    what else verl passes decide nothing. Raises LensError where there is no reward."""
    prompt = (extra_info or {}).get(prompt_key)
    if prompt is None:
        raise LensError(
            f"extra_info has no `{prompt_key}`, only {sorted(extra_info or {})}: put the prompt there "
            "when the data is made, or name its key with reward_kwargs.prompt_key"
        )
    (one,) = _client(url, None, model).score([prompt], [solution_str])
    result = {"score": one["normalised" if normalised else "reward"], "deviation": one["deviation"]}
    if one.get("novelty"):
        result["out_of_distribution"] = float(one["novelty"]["out_of_distribution"])
    return result


async def compute_score_async(data_source, solution_str, ground_truth, extra_info=None, **options):
    """As compute_score, for `custom_reward_function.name=compute_score_async`."""
    score = functools.partial(compute_score, data_source, solution_str, ground_truth, extra_info, **options)
    return await asyncio.to_thread(score)
