"""ms-swift with the rewards of `lens serve`: an outcome reward model for GRPO.

    LENS_URL=http://127.0.0.1:8080 swift rlhf --rlhf_type grpo \\
        --external_plugins /path/to/adapters/lens_swift.py --reward_funcs lens ..

Settings come from the environment: LENS_URL, LENS_TOKEN, LENS_MODEL, and LENS_NORMALISED=1 for
rewards in standard deviations of the training responses' rewards. Standard library only; where swift
cannot be imported the class is there all the same, unregistered.
"""

import os
import sys

if os.path.dirname(os.path.abspath(__file__)) not in sys.path:
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))

from lens_reward import LensError, RewardClient

try:
    from swift.rewards import ORM, orms
except ModuleNotFoundError as error:
    # Another module that swift itself misses is its user's business.
    if (error.name or "").split(".")[0] != "swift":
        raise
    ORM, orms = object, None


class LensReward(ORM):
    """`reward(completions, messages=.., ..) -> [float]`. `messages` are the rows' chats, which swift
    passes; where a chat ends with the completion itself, that turn is the response."""

    def __init__(self, args=None, **kwargs):
        if ORM is not object:
            super().__init__(args, **kwargs)
        self.client = RewardClient()
        self.normalised = os.environ.get("LENS_NORMALISED", "") not in ("", "0")

    def __call__(self, completions, **kwargs):
        chats = kwargs.get("messages")
        if chats is None or len(chats) != len(completions):
            raise LensError(
                f"{len(completions)} completions, but {len(chats or [])} chats in `messages`: the "
                "reward of a response needs its prompt"
            )
        prompts = []
        for chat, completion in zip(chats, completions):
            chat = list(chat)
            if chat and chat[-1].get("role") == "assistant" and chat[-1].get("content") == completion:
                chat.pop()
            prompts.append(chat)
        return self.client.rewards(prompts, completions, self.normalised)


if orms is not None:
    orms["lens"] = LensReward
