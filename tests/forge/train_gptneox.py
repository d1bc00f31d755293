"""Trains a small GPT-NeoX on given text, to measure quantization on a second architecture.

    python3 tests/forge/train_gptneox.py OUT models/sample MINUTES TEXT...

OUT becomes a Hugging Face folder (BF16, 6.8 M parameters), for bench/quality.sh. The tokenizer and the first
values of the embeddings are the sample model's; everything else starts at random and is trained with AdamW
on windows of 256 tokens, each beginning with BOS, for MINUTES. Wants torch and transformers, which nothing
else here does.
"""

import math
import os
import shutil
import sys
import time

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

WINDOW, BATCH, PEAK, WARM = 256, 16, 2e-3, 40


def token_ids(tokenizer, texts):
    ids = []
    for name in texts:
        with open(name, encoding="utf-8") as f:
            ids += tokenizer.encode(f.read(), add_special_tokens=False).ids
    return torch.tensor(ids)


def batch(ids, bos, generator):
    at = torch.randint(0, len(ids) - WINDOW, (BATCH,), generator=generator)
    rows = torch.stack([ids[i : i + WINDOW - 1] for i in at])
    return torch.cat([torch.full((BATCH, 1), bos), rows], dim=1)


def main():
    out, sample, minutes, texts = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4:]
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(7)
    tokenizer = Tokenizer.from_file(os.path.join(sample, "tokenizer.json"))
    config = GPTNeoXConfig(
        vocab_size=4096, hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
        intermediate_size=1024, rotary_pct=0.25, max_position_embeddings=256, hidden_act="gelu",
        use_parallel_residual=True, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        hidden_dropout=0.05, attention_dropout=0.0, layer_norm_eps=1e-5,
    )
    model = GPTNeoXForCausalLM(config)
    first = load_file(os.path.join(sample, "model.safetensors"))["model.embed_tokens.weight"].float()
    with torch.no_grad():
        model.gpt_neox.embed_in.weight.copy_(first)
        model.embed_out.weight.copy_(first)
    ids, bos = token_ids(tokenizer, texts), config.bos_token_id
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(ids):,} tokens", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.95), weight_decay=0.1)
    began, step, mean = time.time(), 0, 0.0
    model.train()
    while True:
        share = (time.time() - began) / (60 * minutes)
        if share >= 1:
            break
        rate = PEAK * min(1, (step + 1) / WARM) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        tokens = batch(ids, bos, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        mean = loss.item() if step == 1 else 0.95 * mean + 0.05 * loss.item()
        if step % 20 == 0:
            print(f"step {step}, {time.time() - began:.0f} s, loss {mean:.3f}", flush=True)
    model.to(torch.bfloat16).save_pretrained(out, safe_serialization=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(os.path.join(sample, name), out)
        os.chmod(os.path.join(out, name), 0o644)
    print(f"{step} steps, loss {mean:.3f}")


if __name__ == "__main__":
    main()
