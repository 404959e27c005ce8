"""A tiny Llama-like model with random weights, for tests that need a model but no knowledge.

``make_tiny_model(folder)`` writes a complete model folder (config, safetensors, byte-level BPE
tokenizer with a chat template) in well under a second once torch is imported. Widths are
multiples of 64, so that it can be loaded in NF4.
"""

from __future__ import annotations

from pathlib import Path

SENTENCES = (
    "Extract the elements of the text as JSON: person, organisation, place, date, amount.",
    '{"person": ["Anna Berg"], "organisation": ["Norvik Trading"], "date": ["3 March 2024"], "amount": ["1,250.00 EUR"]}',
    "Anna Berg joined Norvik Trading in Oslo on 3 March 2024 for 1,250.00 EUR a month.",
    "从文本中抽取要素，输出 JSON：姓名、公司、地点、日期、金额。",
    '{"姓名": ["张三"], "公司": ["北京华信科技有限公司"], "日期": ["2021年3月5日"], "金额": ["12000元"]}',
    "张三于2021年3月5日与北京华信科技有限公司签订劳动合同，月工资12000元。",
    "<|instruction|>:<|input|>:<|output|>:<eoh><eoa> system user assistant 你是一个要素抽取机器人",
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_tokenizer(folder: Path) -> Path:
    """Write only the tokenizer: no torch needed. Any text comes back byte for byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_model(folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 64) -> Path:
    """Write a whole model folder (about 100,000 random float32 weights) and return it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from core.models.tokenizer import tokenizer_in

    tokenizer = tokenizer_in(make_tiny_tokenizer(folder))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.2,  # wide, so that greedy choices aren't near ties
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    return folder
