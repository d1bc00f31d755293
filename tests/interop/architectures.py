"""One small model per architecture: configuration, names and shapes of its tensors, random weights.

Configurations come from transformers' own classes where it has them (then what they leave out of config.json
is left out here too), otherwise they are written as the model's repository writes them. Names and shapes are
those of the model's code; upstream's converter refuses wrong names, libllama wrong shapes."""
import json

import numpy as np

SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=256)
HEAD = 16
Q, KV, H, F = 64, 32, 64, 96


def layers(prefix, n, table):
    return {f"{prefix}{i}.{name}": shape for i in range(n) for name, shape in table.items()}


def llama_like(extra=None, drop=(), head=True, n=2, ffn=F, kv=KV, q=Q):
    block = {
        "input_layernorm.weight": (H,), "post_attention_layernorm.weight": (H,),
        "self_attn.q_proj.weight": (q, H), "self_attn.k_proj.weight": (kv, H),
        "self_attn.v_proj.weight": (kv, H), "self_attn.o_proj.weight": (H, q),
        "mlp.gate_proj.weight": (ffn, H), "mlp.up_proj.weight": (ffn, H), "mlp.down_proj.weight": (H, ffn),
        **(extra or {}),
    }
    for name in drop:
        del block[name]
    t = {"model.embed_tokens.weight": ("vocab", H), "model.norm.weight": (H,), **layers("model.layers.", n, block)}
    if head:
        t["lm_head.weight"] = ("vocab", H)
    return t


MLP = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
BIASES = {"self_attn.q_proj.bias": (Q,), "self_attn.k_proj.bias": (KV,), "self_attn.v_proj.bias": (KV,)}


def experts(n, ffn, where="mlp.experts.", names=("gate_proj", "up_proj", "down_proj")):
    gate, up, down = names
    t = {}
    for i in range(n):
        t[f"{where}{i}.{gate}.weight"] = (ffn, H)
        t[f"{where}{i}.{up}.weight"] = (ffn, H)
        t[f"{where}{i}.{down}.weight"] = (H, ffn)
    return t


CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


@case
def mixtral():
    moe = {"block_sparse_moe.gate.weight": (4, H),
           **experts(4, F, "block_sparse_moe.experts.", ("w1", "w3", "w2"))}
    return "MixtralForCausalLM", dict(SMALL, num_local_experts=4), llama_like(moe, MLP), {"shards": 3}


@case
def qwen2moe():
    moe = {"mlp.gate.weight": (4, H), "mlp.shared_expert_gate.weight": (1, H), **experts(4, 48),
           "mlp.shared_expert.gate_proj.weight": (80, H), "mlp.shared_expert.up_proj.weight": (80, H),
           "mlp.shared_expert.down_proj.weight": (H, 80)}
    return ("Qwen2MoeForCausalLM",
            dict(SMALL, num_experts=4, moe_intermediate_size=48, shared_expert_intermediate_size=80),
            llama_like({**BIASES, **moe}, MLP), {"dtype": "F16"})


@case
def qwen3moe():
    norms = {"self_attn.q_norm.weight": (32,), "self_attn.k_norm.weight": (32,)}
    moe = {"mlp.gate.weight": (4, H), **experts(4, 48)}
    return ("Qwen3MoeForCausalLM", dict(SMALL, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=48),
            llama_like({**norms, **moe}, MLP, q=128, kv=64), {})


# ---- folders -------------------------------------------------------------------------------------


def numbers(shape, name, rng, vocab):
    shape = tuple(vocab if s == "vocab" else s for s in shape)
    x = rng.normal(0, 0.05, shape).astype(np.float32)
    return 1 + x if "norm" in name and name.endswith("weight") and len(shape) == 1 else x


def build(name, folder, tokenizers, save_weights, write_json):
    """Fills the folder and returns {"pre", "types", ...}. tokenizers: kind → (folder to copy, size)."""
    import os
    import shutil

    architecture, fields, tensors, facts = CASES[name]()
    kind = facts.get("tokenizer", "bpe")
    source, vocab = tokenizers[kind]
    for file in os.listdir(source):
        shutil.copy(f"{source}/{file}", folder)
    if "tokenizer_config" in facts:
        with open(f"{folder}/tokenizer_config.json", encoding="utf-8") as f:
            write_json(folder, "tokenizer_config.json", {**json.load(f), **facts["tokenizer_config"]})
    fields = dict(fields, **{facts.get("vocab_field", "vocab_size"): vocab})
    if facts.get("plain"):
        write_json(folder, "config.json", {"architectures": [architecture], **fields})
    else:
        import transformers

        config = getattr(transformers, facts.get("config") or architecture.replace("ForCausalLM", "Config"))
        config(architectures=[architecture], **fields).save_pretrained(folder)
    rng = np.random.default_rng(len(name))
    weights = {n: numbers(s, n, rng, vocab) for n, s in tensors.items()}
    save_weights(folder, weights, facts.get("dtype", "BF16"), shards=facts.get("shards", 1))
    return {"pre": "-" if kind != "bpe" else "gpt-2", "types": facts.get("types", ["bf16"]),
            "near": facts.get("near", ()), "runs": facts.get("runs", True), "same": facts.get("same", ())}
