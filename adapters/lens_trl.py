"""TRL (GRPO, RLOO, online DPO) with the rewards of `lens serve`.

    from lens_trl import reward_function

    trainer = GRPOTrainer(model=.., reward_funcs=reward_function("http://127.0.0.1:8080"), ..)

The folder of this file has to be on PYTHONPATH. Standard library only.
"""

import asyncio
import os
import sys

if os.path.dirname(os.path.abspath(__file__)) not in sys.path:
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))

from lens_reward import RewardClient, unlike


def reward_function(url=None, *, normalised=False, asynchronous=False, name="lens", **options):
    """A reward function for TRL: `f(prompts, completions, ..) -> [float]`, plain or chat.

    url: the server, else LENS_URL. normalised: rewards in standard deviations of the training
    responses' rewards. asynchronous: awaited by TRL beside others (needs TRL 1.0 or later).
    name: what TRL's logs call it. options: as RewardClient (token, model, timeout, patience,
    concurrency). It raises LensError where there is no reward, and can be pickled.

    Where TRL offers `log_metric`, it logs `NAME/reward_mean`, and `NAME/out_of_distribution`: the
    share of completions unlike those that the reward model was trained on.
    """
    kind = AsyncReward if asynchronous else Reward
    return kind(RewardClient(url, **options), "normalised" if normalised else "reward", name)


class Reward:
    """What reward_function returns."""

    def __init__(self, client, key, name):
        self.client, self.key, self.__name__ = client, key, name

    def __call__(self, prompts, completions, completion_ids=None, trainer_state=None, log_metric=None, **columns):
        return self._score(prompts, completions, log_metric)

    def _score(self, prompts, completions, log_metric):
        scored = self.client.score(prompts, completions)
        rewards = [one[self.key] for one in scored]
        if log_metric is not None and rewards:
            log_metric(f"{self.__name__}/reward_mean", sum(rewards) / len(rewards))
            share = unlike(scored)
            if share is not None:
                log_metric(f"{self.__name__}/out_of_distribution", share)
        return rewards


class AsyncReward(Reward):
    """What reward_function returns for `asynchronous`."""

    async def __call__(self, prompts, completions, completion_ids=None, trainer_state=None, log_metric=None, **columns):
        return await asyncio.to_thread(self._score, prompts, completions, log_metric)
