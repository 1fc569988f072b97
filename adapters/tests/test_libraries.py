"""Client libraries that others wrote for these routes, against `lens serve` with a real reward model:
OpenAI's, Cohere's (which vLLM names for `/rerank`) and the Hugging Face Hub's.

Run by scripts/test_adapters.py, as test_trainers.py is.
"""

import os
import pathlib
import sys
import unittest

import cohere
import huggingface_hub
import numpy
import openai

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from serving import ANSWERS, PROMPTS, TOKEN, Server, scored


class Libraries(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        bundle = os.environ["LENS_BUNDLE"]
        cls.server = Server("--name", f"rm={bundle}", "--token", TOKEN)
        cls.addClassCleanup(cls.server.stop)
        cls.expected = scored(bundle, [PROMPTS[0]] * 2, ANSWERS[:2])

    def close(self, rewards, expected):
        numpy.testing.assert_allclose(rewards, expected, rtol=1e-4, atol=1e-4)

    def test_openai_lists_models_and_reads_rewards_as_embeddings(self):
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=TOKEN)
        self.assertEqual([model.id for model in client.models.list()], ["rm"])
        # Asked for nothing, this client takes base64; a prompt and its response are one text here.
        texts = [f"{PROMPTS[0]}\n\n{answer}" for answer in ANSWERS]
        plain = client.embeddings.create(model="rm", input=texts)
        floats = client.embeddings.create(model="rm", input=texts, encoding_format="float")
        self.assertEqual([item.index for item in plain.data], [0, 1, 2])
        self.close([item.embedding for item in plain.data], [item.embedding for item in floats.data])
        self.assertEqual({len(item.embedding) for item in plain.data}, {1})
        self.assertEqual(len({item.embedding[0] for item in plain.data}), 3)
        self.assertGreater(plain.usage.prompt_tokens, 20)
        alone = client.embeddings.create(model="rm", input=texts[1])
        self.close(alone.data[0].embedding, plain.data[1].embedding)

    def test_openai_understands_what_is_refused(self):
        client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=TOKEN, max_retries=0)
        with self.assertRaisesRegex(openai.NotFoundError, "there is no model `other` here"):
            client.embeddings.create(model="other", input="text")
        with self.assertRaises(openai.APIStatusError) as empty:
            client.embeddings.create(model="rm", input=[])
        self.assertIn(empty.exception.status_code, (400, 422))
        stranger = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="another", max_retries=0)
        with self.assertRaisesRegex(openai.AuthenticationError, "a token is needed"):
            stranger.models.list()

    def test_cohere_ranks_responses_by_reward(self):
        best = max(range(2), key=self.expected.__getitem__)
        for kind in (cohere.Client, cohere.ClientV2):
            with self.subTest(kind.__name__):
                client = kind(TOKEN, base_url=self.server.url)
                asked = dict(model="rm", query=PROMPTS[0], documents=ANSWERS[:2])
                results = client.rerank(**asked).results
                self.assertEqual([r.index for r in results], [best, 1 - best])
                self.close([r.relevance_score for r in results], [self.expected[r.index] for r in results])
                first = client.rerank(**asked, top_n=1).results
                self.assertEqual([r.index for r in first], [best])
                with self.assertRaises(cohere.core.api_error.ApiError) as refused:
                    client.rerank(**{**asked, "model": "other"})
                self.assertEqual(refused.exception.status_code, 404)

    def test_the_hubs_client_classifies_as_with_text_embeddings_inference(self):
        client = huggingface_hub.InferenceClient(token=TOKEN)
        # Of a list in a list it takes the first; of the flat one that text-embeddings-inference gives for
        # one text, the element.
        scores = [
            client.text_classification(text, model=f"{self.server.url}/predict").score for text in ANSWERS
        ]
        # Without `raw_scores`, which this client does not know: sigmoids of normalised rewards.
        openai_client = openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=TOKEN)
        rewards = [d.embedding[0] for d in openai_client.embeddings.create(model="rm", input=ANSWERS).data]
        self.assertTrue(all(0 < score < 1 for score in scores), scores)
        self.assertEqual(numpy.argsort(scores).tolist(), numpy.argsort(rewards).tolist())
        with self.assertRaises(huggingface_hub.errors.HfHubHTTPError) as refused:
            stranger = huggingface_hub.InferenceClient(token="another")
            stranger.text_classification("text", model=f"{self.server.url}/predict")
        self.assertEqual(refused.exception.response.status_code, 401)


if __name__ == "__main__":
    unittest.main()
