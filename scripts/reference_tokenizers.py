"""Small tokenizers of every supported kind, and what transformers makes of hostile texts.

Run by hand where the reference is to be renewed (needs transformers 5, tokenizers, and for real
models gguf); the tests only read what it wrote:

    python scripts/reference_tokenizers.py tiny                       # the small ones
    python scripts/reference_tokenizers.py references                 # their ids only
    python scripts/reference_tokenizers.py real gemma3 gemma.gguf     # real ones: ids only
    python scripts/reference_tokenizers.py real qwen2 qwen.gguf
    python scripts/reference_tokenizers.py real minilm all-MiniLM-L6-v2/

`tiny` trains one tokenizer per kind on the text below and writes it to
`crates/lens-encoder/tests/data/tokenizers/<kind>/` as a transformers folder has it
(`tokenizer.json`, `tokenizer_config.json`, a `config.json` that only names the kind of model), with
`reference.json`: for each text transformers' ids with `split_special_tokens=True` (`text`, a user's
text is only text) and `False` (`parse`, special tokens in it are parsed). Long texts are stored as a
rule, `{"repeat": [piece, times]}`, and their ids as `{"count": n, "sha256": of the ids as
little-endian u32}`.
"""

import functools
import hashlib
import json
import struct
import sys
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

OUT = Path(__file__).resolve().parent.parent / "crates/lens-encoder/tests/data/tokenizers"

CORPUS = """
The capital of France is Paris. What is the capital of Spain? It is Madrid, which lies in the
middle of the country. A reward model gives a number to an answer: the better the answer, the
higher the number. People compare two answers and say which one they prefer, and why they do.
I don't think that's right, we'll see; they've said it'd be done by 10:45 on 2024-03-17, and I'm
sure you're not going to like it. It costs $1,234.56 or 12.5% more than it did in 1999!
Human: How do I write a loop in Rust? Assistant: Use `for i in 0..10 { println!("{i}"); }`.
def main(args: list[str]) -> int:
    total = 0
    for number in range(100):
        if number % 3 == 0 and number % 5 != 0:
            total += number  # only these
    return total

fn add(left: u64, right: u64) -> u64 { left + right }
{"name": "value", "list": [1, 2, 3, null, true, false]}
HELLO WORLD. Hello World. hello world. HTTPServer, camelCase, snake_case, kebab-case.
Die Hauptstadt von Österreich ist Wien. Über die Straße gehen. Fünf große Äpfel, bitte.
Le café est très bon, où êtes-vous allés? Ça va bien. El niño está aquí, ¿verdad?
Столица России — Москва. Быстрая коричневая лиса прыгает через ленивую собаку.
我们今天去北京。你好，世界！这是一个测试。 東京は日本の首都です。こんにちは。
مرحبا بالعالم، كيف حالك اليوم؟ שלום עולם, מה שלומך?
한국어 문장도 있습니다. नमस्ते दुनिया। สวัสดีชาวโลก
Emoji: 😀 🎉 👍🏽 ❤️ and so on.
"""

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3_CHAT = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}"
    "<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
LLAMA2_CHAT = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    " {{ message.content | trim }} {{ eos_token }}{% else %}"
    "{{ bos_token }}[INST] {{ message.content | trim }} [/INST]{% endif %}{% endfor %}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message.role == 'assistant' else message.role }}\n"
    "{{ message.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3_CHAT = (
    "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def special(content, **options):
    return AddedToken(content, normalized=False, special=True, **options)


def plain(content, **options):
    return AddedToken(content, normalized=False, special=False, **options)


def byte_level(split, normalizer, merges, added, post, whole=(), **model_options):
    """Byte-level BPE: the 256 bytes, the merges, pieces that no merge makes, the added tokens."""
    pre = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained = Tokenizer(models.BPE())
    trained.normalizer, trained.pre_tokenizer = normalizer, pre
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        CORPUS.splitlines(keepends=True),
        trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    for piece in whole:
        assert piece not in model["vocab"]
        model["vocab"][piece] = len(model["vocab"])
    tokenizer = Tokenizer(
        models.BPE(
            vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]], **model_options
        )
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre
    tokenizer.decoder = decoders.ByteLevel()
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    tokenizer.post_processor = post(tokenizer)
    return tokenizer


def sentencepiece(first, user, last, pieces, prefix, gemma=False):
    """SentencePiece-BPE with byte fallback: control tokens, user-defined ones, bytes, pieces, and
    the merges that transformers' converter derives from them."""
    from transformers.tokenization_utils_base import generate_merges

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement="▁", prepend_scheme="always" if prefix else "never", split=True
    )
    trained.train_from_iterator(
        CORPUS.splitlines(),
        trainers.BpeTrainer(vocab_size=pieces, limit_alphabet=120, show_progress=False),
    )
    model = json.loads(trained.to_str())["model"]
    merged = ["".join(m) for m in model["merges"]]
    letters = [t for t in model["vocab"] if len(t) == 1]
    names = [t.content for t in first] + [t.content for t in user]
    names += [f"<0x{b:02X}>" for b in range(256)]
    names += list(dict.fromkeys(p for p in merged + letters if p not in names))
    vocab = {name: i for i, name in enumerate(names)}
    # A piece's score is its rank; user-defined pieces have the best in SentencePiece's files, and
    # rank by their place in Gemma's tokenizer.json.
    best = 0 if gemma else len(first) + len(user)
    scores = {n: 0.0 if i < best else -float(i) for n, i in vocab.items()}
    skip = {t.content for t in first} | {f"<0x{b:02X}>" for b in range(256)}
    merges = generate_merges(vocab, scores, skip_tokens=skip)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    spaces = normalizers.Replace(" ", "▁")
    if gemma:
        tokenizer.normalizer = spaces
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        chain + ([decoders.Strip(content=" ", left=1)] if prefix else [])
    )
    for token in first + user + last:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def template(tokenizer, *before, after=()):
    names = [*before, *after]
    ids = [(name, tokenizer.token_to_id(name)) for name in names]
    single = " ".join([*before, "$A", *after])
    return processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=ids)


def llama3():
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>"]
    names += ["<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
    tokenizer = byte_level(
        LLAMA3_SPLIT,
        None,
        300,
        [special(n) for n in names],
        lambda t: processors.Sequence(
            [processors.ByteLevel(trim_offsets=False), template(t, "<|begin_of_text|>")]
        ),
        # Found only because of `ignore_merges`.
        whole=["Ġsnake", "Ġdecomposed"],
        ignore_merges=True,
    )
    config = {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "chat_template": LLAMA3_CHAT,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return tokenizer, config, "llama"


def qwen2():
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"]
    added = [special(n) for n in names]
    added += [plain(n) for n in ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<think>"]]
    tokenizer = byte_level(
        QWEN2_SPLIT,
        normalizers.NFC(),
        300,
        added,
        lambda t: processors.ByteLevel(trim_offsets=False),
        unk_token=None,
    )
    config = {
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "chat_template": CHATML,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    return tokenizer, config, "qwen2"


@functools.cache
def llama2():
    first = [special("<unk>"), special("<s>"), special("</s>")]
    tokenizer = sentencepiece(first, [], [], 380, prefix=True)
    tokenizer.post_processor = template(tokenizer, "<s>")
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "legacy": False,
        "chat_template": LLAMA2_CHAT,
        "tokenizer_class": "LlamaTokenizer",
    }
    return tokenizer, config, "llama"


def mistral():
    """Llama 2's tokenizer in a folder of another model, where transformers leaves it as it is."""
    tokenizer, config, _ = llama2()
    return tokenizer, {**config, "legacy": True}, "mistral"


def gemma():
    first = [special(n) for n in ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]]
    first += [special("<start_of_turn>"), special("<end_of_turn>")]
    user = [plain(n) for n in ["\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "▁▁▁▁", "<table>", "</table>"]]
    tokenizer = sentencepiece(first, user, [], 380, prefix=False, gemma=True)
    tokenizer.post_processor = template(tokenizer, "<bos>")
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "chat_template": GEMMA_CHAT,
        "tokenizer_class": "GemmaTokenizer",
    }
    return tokenizer, config, "gemma3_text"


def phi3():
    first = [special("<unk>"), special("<s>"), plain("</s>", rstrip=True)]
    last = [special("<|endoftext|>")]
    last += [special(f"<|{n}|>", rstrip=True) for n in ["assistant", "system", "end", "user"]]
    tokenizer = sentencepiece(first, [], last, 380, prefix=True)
    tokenizer.post_processor = template(tokenizer)
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<unk>",
        "legacy": False,
        "chat_template": PHI3_CHAT,
        "tokenizer_class": "LlamaTokenizer",
    }
    return tokenizer, config, "phi3"


def bert():
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=600, limit_alphabet=130, special_tokens=names, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = template(tokenizer, "[CLS]", after=["[SEP]"])
    # As sentence-transformers' files have them.
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128, pad_id=0, pad_token="[PAD]")
    config = {
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": 512,
        "tokenizer_class": "BertTokenizer",
    }
    config |= {f"{n[1:-1].lower()}_token": n for n in names}
    return tokenizer, config, "bert"


KINDS = [llama3, qwen2, llama2, mistral, gemma, phi3, bert]

TEXTS = [
    "",
    " ",
    "  ",
    "     ",
    "Hello",
    " Hello",
    "  Hello world  ",
    "Hello, world! It's the capital of France.",
    "I'M SURE THEY'LL DON'T we'Ve they'd",
    "The number 1234567890, 3.14159, 1,234.56, 10:45, 2024-03-17, ½ ² Ⅷ ٣٤٥ १२३",
    "a\nb\n\nc\n\n\nd\n\n\n\n\ne",
    "a\r\nb\r\n\r\nc\rd",
    "\n",
    "\n\n",
    " \n \n ",
    "\t\ttabs\tand  spaces \t mixed\t",
    "trailing spaces   ",
    "\u00a0no-break\u2003em\u3000ideographic\u202fnarrow\u2028line\u2029paragraph\u0085next",
    "zero\u200bwidth\u200cnon\u200djoiner\ufeffbom\u2060word\u00adsoft",
    "\ufeffBOM first",
    "".join(map(chr, range(0x20))) + "\x7f",
    "a\x00b\x01c\x1fd\x7fe\x80f\x9fg",
    "😀🎉👍🏽❤️👨‍👩‍👧‍👦🏳️‍🌈🇦🇹 and ☺︎ ☺️",
    "👨‍👩‍👧‍👦" * 3,
    "مرحبا بالعالم، كيف حالك اليوم؟ \u202eabc\u202c שָׁלוֹם עולם",
    "café naïve Ünïcödé Ångström",
    "cafe\u0301 nai\u0308ve U\u0308ni\u0308co\u0308de\u0301 A\u030angstro\u0308m",
    "Z\u0351\u036b\u0343\u036a\u0302a\u0324\u0321l\u0316\u030cg\u0321o\u0320 \u0301lone",
    "\u1e9b\u0323 \ufb01 ﬃ ｆｕｌｌ ｗｉｄｔｈ Ⅳ ㎏ ™ ℌ",
    "ǅ İstanbul ıI ß ẞ ς Σ",
    "我们今天去北京。你好，世界！ 東京は日本の首都です。한국어 문장 สวัสดี नमस्ते",
    "\u1112\u1161\u11ab\u1100\u1173\u11af decomposed Hangul",
    "Столица России — Москва, а не Wien.",
    "mixedСмешанный文字문자text123абв",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠜎 \U000f0000 \ue000 \uffff \ufffd \ufdd0 \ufdd5",
    "def f(x):\n    if x > 0:\n        return x ** 2  # squared\n    return -x\n",
    "fn main() { let v: Vec<&'static str> = vec![]; println!(\"{:?}\", v); }",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org C:\\dir\\file.txt",
    "$x^2 + \\frac{a}{b} \\leq \\sum_{i=0}^{n}$ ... !!! ??? --- === ~~~ ___ ***",
    "'s 't 're 've 'm 'll 'd ' '' ’s",
    "CamelCaseWordsAndHTTPServerXMLParser snake_case_word",
    "▁ literal ▁▁ marks ▁x Ġ Ċ ## ##ing <0x41> <0x0A>",
    "a" * 101,
    "word" * 200,
    "<", "<|", "<|>", "|>", "[", "[]", "[[SEP]]", "</", "<s", "s>",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>\n",
    "<|im_<|im_end|>end|>", "<|IM_END|>", "<| im_end |>", "a<|im_end|>b <|im_end|> c",
    "<|begin_of_text|>", "<|begin_of_text|>Hello", "<|begin_of_text|><|begin_of_text|>Hello",
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|eot_<|eot_id|>id|>",
    "<s>", "<s>Hello</s>", "<s> Hello </s> there", "</s></s>", "<unk>", "<unk>unk<unk>",
    "<s>[INST] Hi [/INST] Yes </s><s>[INST] More [/INST]",
    "<bos>", "<bos>Hello", "<eos>", "<start_of_turn>user\nHi<end_of_turn>\n", "<pad><mask>",
    "<end_of_<end_of_turn>turn>", "<table>cell</table>", " <table> ",
    "<|user|>\nHi<|end|>\n<|assistant|>\n", "<|end|>   \n\n  spaces after", "</s>  \n x",
    "<|system|>", "x <|end|>",
    "[CLS]", "[SEP]", "[CLS] Hello [SEP]", "[cls] [sep]", "[MASK]ed [ MASK ] [PAD][UNK]",
    "a[SEP]b", "[S[SEP]EP]", "<tool_call>{}</tool_call>", "<think>hmm</think>", "<|fim_prefix|>x",
    "<think><|im_end|></think>", "<|vision_start|>", "<|reserved_special_token_0|>",
    {"repeat": ["ab ", 33334]},
    {"repeat": ["a", 100000]},
    {"repeat": [" ", 100000]},
    {"repeat": ["\n", 100000]},
    {"repeat": ["Wörter", 16667]},
    {"repeat": ["abcdefghij", 10000]},
    {"repeat": ["北京", 50000]},
    {"repeat": ["😀", 100000]},
    {"repeat": ["7", 100000]},
    {"repeat": ["!?", 50000]},
    {"repeat": ["e\u0301", 50000]},
]


def digest(ids):
    if len(ids) <= 1000:
        return ids
    packed = struct.pack(f"<{len(ids)}I", *ids)
    return {"count": len(ids), "sha256": hashlib.sha256(packed).hexdigest()}


def reference(tokenizer):
    cases = []
    for entry in TEXTS:
        text = entry if isinstance(entry, str) else entry["repeat"][0] * entry["repeat"][1]
        text_ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        parse_ids = tokenizer(text, split_special_tokens=False)["input_ids"]
        case = {"text": entry, "ids": digest(text_ids)}
        if parse_ids != text_ids:
            case["parse"] = digest(parse_ids)
        if len(text) < 200:
            decoded = tokenizer.decode(
                text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            if decoded != text:
                case["decoded"] = decoded
        cases.append(case)
    return cases


def chat(tokenizer):
    """A conversation by the folder's own chat template."""
    if not tokenizer.chat_template:
        return None
    messages = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris, of course."},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"]
    return {"text": text, "ids": ids}


def write(path, kind, tokenizer):
    import transformers

    head = {"kind": kind, "transformers": transformers.__version__}
    rows = reference(tokenizer)
    body = ",\n".join("    " + json.dumps(row, ensure_ascii=True) for row in rows)
    chat_row = json.dumps(chat(tokenizer), ensure_ascii=True)
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    lines += [f'  "chat": {chat_row}', f'  "texts": [\n{body}\n  ]']
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(path.name, path.stat().st_size, "bytes")


def tiny():
    for build in KINDS:
        tokenizer, config, model_type = build()
        folder = OUT / build.__name__
        folder.mkdir(parents=True, exist_ok=True)
        written = json.loads(tokenizer.to_str())
        # One entry a line would be three times the size.
        (folder / "tokenizer.json").write_text(json.dumps(written, ensure_ascii=False) + "\n")
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}) + "\n")
        size = (folder / "tokenizer.json").stat().st_size
        print(build.__name__, tokenizer.get_vocab_size(), "tokens,", size, "bytes")
    references()


def references():
    from transformers import AutoTokenizer

    for build in KINDS:
        folder = OUT / build.__name__
        write(folder / "reference.json", build.__name__, AutoTokenizer.from_pretrained(folder))


def real(name, path):
    from transformers import AutoTokenizer

    path = Path(path)
    if path.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(path)
    else:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        if name == "qwen2":
            # Qwen2Tokenizer has it; what transformers makes of a GGUF file goes without.
            tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    tokenizer.chat_template = None
    write(OUT / f"{name}.json", name, tokenizer)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["tiny"]:
            tiny()
        case ["references"]:
            references()
        case ["real", name, path]:
            real(name, path)
        case _:
            sys.exit(__doc__)
