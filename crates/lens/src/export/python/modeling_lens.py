"""A reward model of LENS in transformers: hidden states of a language model, and a small head on them.

    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)
    model = AutoModelForSequenceClassification.from_pretrained(FOLDER, trust_remote_code=True)
    ids = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
    reward = model(**ids).logits[0, 0]

`views` of the configuration says which states are read: the layer (0 is the embedding, the last one is after
the final norm), how the states of a text's tokens become one (`last`, `mean`), and the tokens that are put
behind the text first, such as a question about it.
"""

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class LensConfig(PretrainedConfig):
    model_type = "lens-reward-model"

    def __init__(self, base=None, views=(), hidden=(), members=1, activation="relu", **others):
        self.base = base or {}
        self.views = list(views)
        self.hidden = list(hidden)
        self.members = members
        self.activation = activation
        others.setdefault("num_labels", 1)
        super().__init__(**others)
        for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
            setattr(self, key, self.base.get(key))

    def model_config(self):
        return AutoConfig.for_model(**self.base)


class LensForSequenceClassification(PreTrainedModel):
    config_class = LensConfig
    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = AutoModel.from_config(config.model_config())
        width = config.hidden_size * len(config.views)
        self.standardiser_mean = torch.nn.Parameter(torch.zeros(width), requires_grad=False)
        self.standardiser_scale = torch.nn.Parameter(torch.ones(width), requires_grad=False)
        inputs = width
        for layer, outputs in enumerate([*config.hidden, 1]):
            rows = config.members * outputs
            self.register_parameter(f"head_{layer}_weight", torch.nn.Parameter(torch.zeros(rows, inputs)))
            if layer < len(config.hidden):
                self.register_parameter(f"head_{layer}_bias", torch.nn.Parameter(torch.zeros(rows)))
            inputs = outputs
        self.post_init()

    def _init_weights(self, module):
        pass

    def get_input_embeddings(self):
        return self.model.get_input_embeddings()

    def embed(self, input_ids, attention_mask):
        """The views of each text side by side, [texts, width]."""
        parts = [None] * len(self.config.views)
        for suffix in {tuple(view["suffix_ids"]) for view in self.config.views}:
            # Texts from the left, whatever side the padding was on, each with the suffix behind it.
            rows = [torch.cat([ids[mask.bool()], ids.new_tensor(suffix)])
                    for ids, mask in zip(input_ids, attention_mask)]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.config.pad_token_id)
            lengths = torch.tensor([len(row) for row in rows], device=ids.device)
            mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
            states = self.model(input_ids=ids, attention_mask=mask.long(), use_cache=False,
                                output_hidden_states=True).hidden_states
            for place, view in enumerate(self.config.views):
                if tuple(view["suffix_ids"]) != suffix:
                    continue
                x = states[view["layer"]].float()
                if view["pooling"] == "mean":
                    parts[place] = (x * mask[..., None]).sum(1) / lengths[:, None]
                else:
                    at = lengths - 1 if view["pooling"] == "last" else torch.zeros_like(lengths)
                    parts[place] = x[torch.arange(len(rows), device=x.device), at]
        return torch.cat(parts, dim=-1)

    def forward(self, input_ids, attention_mask=None, **_):
        if attention_mask is None:
            attention_mask = input_ids != self.config.pad_token_id
        x = (self.embed(input_ids, attention_mask) - self.standardiser_mean.float()) * self.standardiser_scale.float()
        members, activation = self.config.members, getattr(torch, self.config.activation)
        x = x[:, None, :].expand(-1, members, -1)
        for layer in range(len(self.config.hidden) + 1):
            weight = getattr(self, f"head_{layer}_weight").float()
            x = torch.einsum("nmi,moi->nmo", x, weight.view(members, -1, weight.shape[1]))
            if layer < len(self.config.hidden):
                x = activation(x + getattr(self, f"head_{layer}_bias").float().view(members, -1))
        return SequenceClassifierOutput(logits=x.mean(1))
