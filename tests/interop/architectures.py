"""One small model per architecture: configuration, names and shapes of its tensors, random weights.

Configurations come from transformers' own classes where it has them (then what they leave out of config.json
is left out here too), otherwise they are written as the model's repository writes them. Names and shapes are
those of the model's code; upstream's converter refuses wrong names, libllama wrong shapes."""
import json
import os

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


NORMS_4 = {"pre_feedforward_layernorm.weight": (H,), "post_feedforward_layernorm.weight": (H,)}
HEAD_NORMS = {"self_attn.q_norm.weight": (HEAD,), "self_attn.k_norm.weight": (HEAD,)}
SPM = {"tokenizer": "spm"}


@case
def gemma():
    return "GemmaForCausalLM", dict(SMALL, head_dim=HEAD), llama_like(head=False), {**SPM, "dtype": "F16"}


@case
def gemma2():
    return "Gemma2ForCausalLM", dict(SMALL, head_dim=32), llama_like(NORMS_4, head=False, q=128, kv=64), SPM


@case
def gemma3():
    return ("Gemma3ForCausalLM", dict(SMALL, head_dim=HEAD), llama_like({**NORMS_4, **HEAD_NORMS}, head=False),
            {**SPM, "config": "Gemma3TextConfig"})


@case
def gemma3_wrapped():
    """The text model of one that also sees; its other tensors are left out."""
    text = {f"language_model.{n}": s for n, s in llama_like({**NORMS_4, **HEAD_NORMS}, head=False).items()}
    return ("Gemma3ForConditionalGeneration",
            {"text_config": dict(SMALL, head_dim=HEAD, model_type="gemma3_text", rope_scaling={
                "rope_type": "linear", "factor": 8.0}), "model_type": "gemma3"},
            {**text, "multi_modal_projector.mm_input_projection_weight": (8, 8)}, {**SPM, "plain": True,
             "vocab_in": "text_config"})


def linear(name, rows, cols):
    return {f"{name}.weight": (rows, cols), f"{name}.bias": (rows,)}


def norm(name):
    return {f"{name}.weight": (H,), f"{name}.bias": (H,)}


@case
def phi2():
    block = {**norm("input_layernorm"), **linear("self_attn.dense", H, Q), **linear("mlp.fc1", 4 * H, H),
             **linear("mlp.fc2", H, 4 * H)}
    for x in "qkv":
        block |= linear(f"self_attn.{x}_proj", Q, H)
    return ("PhiForCausalLM", dict(SMALL, intermediate_size=4 * H, num_key_value_heads=4, partial_rotary_factor=0.5),
            {"model.embed_tokens.weight": ("vocab", H), **norm("model.final_layernorm"), **linear("lm_head", "vocab", H),
             **layers("model.layers.", 2, block)}, {})


def phi3_tensors():
    return llama_like({"self_attn.qkv_proj.weight": (Q + 2 * KV, H), "mlp.gate_up_proj.weight": (2 * F, H)},
                      ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight",
                       "mlp.gate_proj.weight", "mlp.up_proj.weight"))


@case
def phi4():
    return "Phi3ForCausalLM", dict(SMALL, pad_token_id=1), phi3_tensors(), {}


@case
def microsoft_long_context():
    scaling = {"type": "longrope", "long_factor": [1.0 + i / 7 for i in range(8)], "short_factor": [1.0] * 8}
    return ("Phi3ForCausalLM", dict(SMALL, max_position_embeddings=4096, original_max_position_embeddings=256,
                                    rope_scaling=scaling, pad_token_id=1, sliding_window=64), phi3_tensors(), {})


GPT = dict(n_embd=H, n_layer=2, n_head=4, n_positions=128, n_ctx=128)


@case
def gpt2():
    def conv(name, rows, cols):
        return {f"{name}.weight": (rows, cols), f"{name}.bias": (cols,)}

    block = {**norm("ln_1"), **conv("attn.c_attn", H, 3 * H), **conv("attn.c_proj", H, H), **norm("ln_2"),
             **conv("mlp.c_fc", H, 4 * H), **conv("mlp.c_proj", 4 * H, H)}
    return ("GPT2LMHeadModel", GPT, {"wte.weight": ("vocab", H), "wpe.weight": (128, H), **norm("ln_f"),
                                     **layers("h.", 2, block)}, {"config": "GPT2Config", "dtype": "F32"})


@case
def starcoder():
    block = {**norm("ln_1"), **linear("attn.c_attn", H + 2 * HEAD, H), **linear("attn.c_proj", H, H), **norm("ln_2"),
             **linear("mlp.c_fc", 4 * H, H), **linear("mlp.c_proj", H, 4 * H)}
    return ("GPTBigCodeForCausalLM", GPT,
            {"transformer.wte.weight": ("vocab", H), "transformer.wpe.weight": (128, H), **norm("transformer.ln_f"),
             **layers("transformer.h.", 2, block)}, {})


@case
def gptneox():
    block = {**norm("input_layernorm"), **norm("post_attention_layernorm"),
             **linear("attention.query_key_value", 3 * H, H), **linear("attention.dense", H, H),
             **linear("mlp.dense_h_to_4h", F, H), **linear("mlp.dense_4h_to_h", H, F)}
    return ("GPTNeoXForCausalLM", dict(SMALL),
            {"gpt_neox.embed_in.weight": ("vocab", H), "embed_out.weight": ("vocab", H),
             **norm("gpt_neox.final_layer_norm"), **layers("gpt_neox.layers.", 2, block)}, {"dtype": "F16", "apart": ["general.file_type"]})


@case
def bloom():
    block = {**norm("input_layernorm"), **norm("post_attention_layernorm"),
             **linear("self_attention.query_key_value", 3 * H, H), **linear("self_attention.dense", H, H),
             **linear("mlp.dense_h_to_4h", 4 * H, H), **linear("mlp.dense_4h_to_h", H, 4 * H)}
    return ("BloomForCausalLM", dict(hidden_size=H, n_layer=2, n_head=4, seq_length=128),
            {"transformer.word_embeddings.weight": ("vocab", H), **norm("transformer.word_embeddings_layernorm"),
             **norm("transformer.ln_f"), **layers("transformer.h.", 2, block)}, {})


@case
def mpt():
    block = {"norm_1.weight": (H,), "norm_2.weight": (H,), "attn.Wqkv.weight": (3 * H, H),
             "attn.out_proj.weight": (H, H), "ffn.up_proj.weight": (4 * H, H), "ffn.down_proj.weight": (H, 4 * H)}
    return ("MPTForCausalLM", dict(d_model=H, n_layers=2, n_heads=4, max_seq_len=128,
                                   attn_config={"alibi": True, "alibi_bias_max": 8, "clip_qkv": None}),
            {"transformer.wte.weight": ("vocab", H), "transformer.norm_f.weight": (H,),
             **layers("transformer.blocks.", 2, block)}, {"config": "MptConfig", "apart": ["general.file_type"]})


@case
def stablelm():
    t = llama_like({**norm("input_layernorm"), **norm("post_attention_layernorm"), **BIASES})
    return "StableLmForCausalLM", dict(SMALL, use_qkv_bias=True), {**t, "model.norm.bias": (H,)}, {}


@case
def stablelm_12b():
    heads = {f"self_attn.{x}_layernorm.norms.{i}.weight": (HEAD,) for x, n in (("q", 4), ("k", 2)) for i in range(n)}
    t = llama_like({**norm("input_layernorm"), **heads}, ("post_attention_layernorm.weight",))
    return ("StableLmForCausalLM", dict(SMALL, qk_layernorm=True, use_parallel_residual=True),
            {**t, "model.norm.bias": (H,)}, {"upstream_fails": True})


def falcon_tensors(norms, kv):
    block = {"self_attention.query_key_value.weight": (H + 2 * kv * HEAD, H), "self_attention.dense.weight": (H, H),
             "mlp.dense_h_to_4h.weight": (4 * H, H), "mlp.dense_4h_to_h.weight": (H, 4 * H)}
    for n in norms:
        block |= norm(n)
    return {"transformer.word_embeddings.weight": ("vocab", H), **norm("transformer.ln_f"),
            **layers("transformer.h.", 2, block)}


@case
def falcon_7b():
    return ("FalconForCausalLM", dict(hidden_size=H, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=1),
            falcon_tensors(["input_layernorm"], 1), {})


@case
def falcon_40b():
    return ("FalconForCausalLM", dict(hidden_size=H, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
                                      new_decoder_architecture=True), falcon_tensors(["ln_attn", "ln_mlp"], 2), {})


@case
def starcoder2():
    block = {**norm("input_layernorm"), **norm("post_attention_layernorm"), **linear("self_attn.q_proj", Q, H),
             **linear("self_attn.k_proj", KV, H), **linear("self_attn.v_proj", KV, H),
             **linear("self_attn.o_proj", H, Q), **linear("mlp.c_fc", F, H), **linear("mlp.c_proj", H, F)}
    return ("Starcoder2ForCausalLM", dict(SMALL),
            {"model.embed_tokens.weight": ("vocab", H), **norm("model.norm"), **layers("model.layers.", 2, block)}, {})


@case
def cohere():
    t = llama_like({"self_attn.q_norm.weight": (4, HEAD), "self_attn.k_norm.weight": (2, HEAD)},
                   ("post_attention_layernorm.weight",), head=False)
    return "CohereForCausalLM", dict(SMALL, use_qk_norm=True, model_max_length=512), t, {"runs": False}


@case
def cohere_35b():
    return ("CohereForCausalLM", dict(SMALL),
            llama_like(drop=("post_attention_layernorm.weight",), head=False), {})


@case
def cohere2():
    return ("Cohere2ForCausalLM", dict(SMALL, head_dim=HEAD, rotary_pct=1.0),
            llama_like(drop=("post_attention_layernorm.weight",), head=False), {})


@case
def nemotron():
    t = llama_like({**norm("input_layernorm"), **norm("post_attention_layernorm")}, ("mlp.gate_proj.weight",))
    return "NemotronForCausalLM", dict(SMALL, head_dim=HEAD), {**t, "model.norm.bias": (H,)}, SPM


@case
def olmo():
    t = llama_like(drop=("input_layernorm.weight", "post_attention_layernorm.weight"))
    del t["model.norm.weight"]
    return "OlmoForCausalLM", dict(SMALL, clip_qkv=8.0), t, {}


OLMO2 = {"post_feedforward_layernorm.weight": (H,), "self_attn.q_norm.weight": (Q,), "self_attn.k_norm.weight": (KV,)}


@case
def olmo2():
    return "Olmo2ForCausalLM", dict(SMALL), llama_like(OLMO2, ("input_layernorm.weight",)), {}


@case
def olmo3():
    return ("Olmo3ForCausalLM", dict(SMALL, num_hidden_layers=5, sliding_window=32),
            llama_like(OLMO2, ("input_layernorm.weight",), n=5), {})


@case
def olmoe():
    moe = {"self_attn.q_norm.weight": (Q,), "self_attn.k_norm.weight": (Q,), "mlp.gate.weight": (4, H),
           **experts(4, F)}
    return ("OlmoeForCausalLM", dict(SMALL, num_key_value_heads=4, num_experts=4, num_experts_per_tok=2), llama_like(moe, MLP, kv=Q), {})


GRANITE = dict(embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.0625)


@case
def granite():
    return "GraniteForCausalLM", dict(SMALL, **GRANITE), llama_like(), {}


@case
def granitemoe():
    moe = {"block_sparse_moe.router.layer.weight": (4, H), "block_sparse_moe.input_linear.weight": (4, 2 * F, H),
           "block_sparse_moe.output_linear.weight": (4, H, F)}
    return "GraniteMoeForCausalLM", dict(SMALL, num_local_experts=4, **GRANITE), llama_like(moe, MLP), {}


@case
def granitemoe_shared():
    moe = {"block_sparse_moe.router.layer.weight": (4, H), "block_sparse_moe.input_linear.weight": (4, 2 * F, H),
           "block_sparse_moe.output_linear.weight": (4, H, F), "shared_mlp.input_linear.weight": (80, H),
           "shared_mlp.output_linear.weight": (H, 40)}
    return ("GraniteMoeSharedForCausalLM", dict(SMALL, num_local_experts=4, shared_intermediate_size=40, **GRANITE),
            llama_like(moe, MLP), {"dtype": "F16"})


@case
def minicpm():
    return ("MiniCPMForCausalLM", dict(SMALL, scale_emb=12, scale_depth=1.4, dim_model_base=32, rms_norm_eps=1e-5,
                                       model_type="minicpm"), llama_like(head=False), {**SPM, "plain": True})


def mla(dense, moe, q_lora, bias):
    nope, rope, v, rank = 16, 8, 24, 32
    block = {"input_layernorm.weight": (H,), "post_attention_layernorm.weight": (H,),
             "self_attn.kv_a_proj_with_mqa.weight": (rank + rope, H), "self_attn.kv_a_layernorm.weight": (rank,),
             "self_attn.kv_b_proj.weight": (4 * (nope + v), rank), "self_attn.o_proj.weight": (H, 4 * v)}
    if q_lora:
        block |= {"self_attn.q_a_proj.weight": (q_lora, H), "self_attn.q_a_layernorm.weight": (q_lora,),
                  "self_attn.q_b_proj.weight": (4 * (nope + rope), q_lora)}
    else:
        block["self_attn.q_proj.weight"] = (4 * (nope + rope), H)
    t = {"model.embed_tokens.weight": ("vocab", H), "model.norm.weight": (H,), "lm_head.weight": ("vocab", H)}
    for i in range(dense + moe):
        if i < dense:
            ffn = {"mlp.gate_proj.weight": (F, H), "mlp.up_proj.weight": (F, H), "mlp.down_proj.weight": (H, F)}
        else:
            ffn = {"mlp.gate.weight": (4, H), **experts(4, 48), "mlp.shared_experts.gate_proj.weight": (96, H),
                   "mlp.shared_experts.up_proj.weight": (96, H), "mlp.shared_experts.down_proj.weight": (H, 96)}
            if bias:
                ffn["mlp.gate.e_score_correction_bias"] = (4,)
        t |= {f"model.layers.{i}.{n}": s for n, s in {**block, **ffn}.items()}
    fields = dict(SMALL, num_key_value_heads=4, num_hidden_layers=dense + moe, qk_nope_head_dim=nope,
                  qk_rope_head_dim=rope, v_head_dim=v, kv_lora_rank=rank, q_lora_rank=q_lora, n_routed_experts=4,
                  n_shared_experts=2, moe_intermediate_size=48, first_k_dense_replace=dense, num_experts_per_tok=2)
    return fields, t


@case
def deepseek_v2_lite():
    fields, t = mla(1, 26, None, False)  # 27 blocks, by which libllama knows it
    return "DeepseekV2ForCausalLM", dict(fields, scoring_func="softmax", rope_scaling={
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1,
        "mscale": 0.707, "mscale_all_dim": 0.707}), t, {}


@case
def deepseek_v3():
    """With a block of multi-token prediction, which is left out."""
    fields, t = mla(1, 2, 24, True)
    mtp = {n.replace("layers.2.", "layers.3."): s for n, s in t.items() if "layers.2." in n}
    return ("DeepseekV3ForCausalLM", dict(fields, n_group=2, topk_group=1, scoring_func="sigmoid",
                                          num_nextn_predict_layers=1),
            {**t, **mtp, "model.layers.3.eh_proj.weight": (H, 2 * H)}, {})


@case
def internlm2():
    block = {"attention_norm.weight": (H,), "ffn_norm.weight": (H,), "attention.wqkv.weight": (Q + 2 * KV, H),
             "attention.wo.weight": (H, Q), "feed_forward.w1.weight": (F, H), "feed_forward.w3.weight": (F, H),
             "feed_forward.w2.weight": (H, F)}
    return ("InternLM2ForCausalLM", dict(SMALL, rms_norm_eps=1e-5, rope_theta=1000000, model_type="internlm2"),
            {"model.tok_embeddings.weight": ("vocab", H), "model.norm.weight": (H,), "output.weight": ("vocab", H),
             **layers("model.layers.", 2, block)},
            {**SPM, "plain": True, "any_order": True,
             "apart": ["tokenizer.ggml.add_space_prefix"]})


@case
def internlm2_chat():
    """Turns end with another token than texts."""
    architecture, fields, t, facts = internlm2()
    added = {i: {"content": s, "special": True} for i, s in (("0", "<unk>"), ("1", "<s>"), ("2", "</s>"), ("300", "<|im_end|>"))}
    return architecture, fields, t, {**facts, "tokenizer_config": {"added_tokens_decoder": added}}


@case
def exaone():
    block = {"ln_1.weight": (H,), "ln_2.weight": (H,), "attn.attention.q_proj.weight": (Q, H),
             "attn.attention.k_proj.weight": (KV, H), "attn.attention.v_proj.weight": (KV, H),
             "attn.attention.out_proj.weight": (H, Q), "mlp.c_fc_0.weight": (F, H), "mlp.c_fc_1.weight": (F, H),
             "mlp.c_proj.weight": (H, F)}
    fields = dict(SMALL, num_layers=2, activation_function="silu", layer_norm_epsilon=1e-5, rope_theta=1000000,
                  model_type="exaone", rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                     "high_freq_factor": 4.0, "original_max_position_embeddings": 64})
    del fields["num_hidden_layers"]
    return ("ExaoneForCausalLM", fields,
            {"transformer.wte.weight": ("vocab", H), "transformer.ln_f.weight": (H,), "lm_head.weight": ("vocab", H),
             **layers("transformer.h.", 2, block)}, {"plain": True, "near": ["rope_freqs.weight"],
                                                        "apart": ["exaone.attention.layer_norm_rms_epsilon"]})


@case
def glm4():
    t = llama_like({"post_self_attn_layernorm.weight": (H,), "post_mlp_layernorm.weight": (H,), **BIASES,
                    "mlp.gate_up_proj.weight": (2 * F, H)}, ("mlp.gate_proj.weight", "mlp.up_proj.weight"))
    return ("Glm4ForCausalLM", dict(SMALL, head_dim=HEAD, attention_bias=True, pad_token_id=1, eos_token_id=3), t,
            {"any_order": True})


@case
def mamba():
    inner, rank = 2 * H, 4
    block = {"norm.weight": (H,), "mixer.in_proj.weight": (2 * inner, H), "mixer.conv1d.weight": (inner, 1, 4),
             "mixer.conv1d.bias": (inner,), "mixer.x_proj.weight": (rank + 32, inner),
             **linear("mixer.dt_proj", inner, rank), "mixer.A_log": (inner, 16), "mixer.D": (inner,),
             "mixer.out_proj.weight": (H, inner)}
    return ("MambaForCausalLM", dict(hidden_size=H, num_hidden_layers=2, state_size=16, conv_kernel=4,
                                     intermediate_size=inner, time_step_rank=rank, layer_norm_epsilon=1e-5,
                                     model_type="mamba"),
            {"backbone.embeddings.weight": ("vocab", H), "backbone.norm_f.weight": (H,),
             **layers("backbone.layers.", 2, block)},
            {"plain": True, "near": ["blk.0.ssm_a", "blk.1.ssm_a"]})


@case
def mamba2():
    inner, heads, conv = 2 * H, 8, 2 * H + 2 * 2 * 16
    block = {"norm.weight": (H,), "mixer.in_proj.weight": (inner + conv + heads, H), "mixer.conv1d.weight": (conv, 1, 4),
             "mixer.conv1d.bias": (conv,), "mixer.dt_bias": (heads,), "mixer.A_log": (heads,), "mixer.D": (heads,),
             "mixer.norm.weight": (inner,), "mixer.out_proj.weight": (H, inner)}
    return ("Mamba2ForCausalLM", dict(hidden_size=H, num_hidden_layers=2, state_size=16, conv_kernel=4, expand=2,
                                      n_groups=2, num_heads=heads, head_dim=16, layer_norm_epsilon=1e-5, hidden_act="silu",
                                      tie_word_embeddings=False, model_type="mamba2"),
            {"backbone.embeddings.weight": ("vocab", H), "backbone.norm_f.weight": (H,), "lm_head.weight": ("vocab", H),
             **layers("backbone.layers.", 2, block)},
            {"plain": True, "near": ["blk.0.ssm_a", "blk.1.ssm_a"]})


@case
def gptoss():
    moe = {"mlp.router.weight": (4, H), "mlp.router.bias": (4,), "self_attn.sinks": (4,), "self_attn.o_proj.bias": (H,),
           "mlp.experts.gate_up_proj": (4, H, 2 * F), "mlp.experts.gate_up_proj_bias": (4, 2 * F),
           "mlp.experts.down_proj": (4, F, H), "mlp.experts.down_proj_bias": (4, H)}
    return ("GptOssForCausalLM", dict(SMALL, head_dim=HEAD, num_local_experts=4, num_experts_per_tok=2, sliding_window=32,
                                      layer_types=["sliding_attention", "full_attention"]),
            llama_like({**BIASES, **moe}, MLP), {})


@case
def lfm2():
    t = {"model.embed_tokens.weight": ("vocab", H), "model.embedding_norm.weight": (H,)}
    for i, conv in enumerate((True, False, True)):
        block = {"operator_norm.weight": (H,), "ffn_norm.weight": (H,), "feed_forward.w1.weight": (128, H),
                 "feed_forward.w2.weight": (H, 128), "feed_forward.w3.weight": (128, H)}
        block |= {"conv.conv.weight": (H, 1, 3), "conv.in_proj.weight": (3 * H, H), "conv.out_proj.weight": (H, H)} if conv else {
            "self_attn.q_proj.weight": (Q, H), "self_attn.k_proj.weight": (KV, H), "self_attn.v_proj.weight": (KV, H),
            "self_attn.out_proj.weight": (H, Q), "self_attn.q_layernorm.weight": (HEAD,),
            "self_attn.k_layernorm.weight": (HEAD,)}
        t |= {f"model.layers.{i}.{n}": s for n, s in block.items()}
    return ("Lfm2ForCausalLM", dict(SMALL, num_hidden_layers=3, block_multiple_of=64, intermediate_size=150,
                                    layer_types=["conv", "full_attention", "conv"]), t, {})


@case
def ernie():
    return ("Ernie4_5ForCausalLM", dict(SMALL, head_dim=32, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=500000.0,
                                        use_bias=False, tie_word_embeddings=True, model_type="ernie4_5"),
            llama_like(head=False, q=128, kv=64), {**SPM, "plain": True, "any_order": True})


@case
def internlm3():
    return ("InternLM3ForCausalLM", dict(SMALL, head_dim=HEAD, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=50000000,
                                         qkv_bias=False, bias=False, model_type="internlm3",
                                         rope_scaling={"factor": 6.0, "rope_type": "dynamic"}),
            llama_like(), {**SPM, "plain": True, "any_order": True})


@case
def smollm3():
    return "SmolLM3ForCausalLM", dict(SMALL, num_hidden_layers=4, pad_token_id=1), llama_like(n=4, head=False), {}


@case
def arcee():
    return "ArceeForCausalLM", dict(SMALL), llama_like(drop=("mlp.gate_proj.weight",)), {}


@case
def seed_oss():
    return ("SeedOssForCausalLM", dict(SMALL, head_dim=32, attention_bias=True, model_type="seed_oss", rms_norm_eps=1e-6,
                                       hidden_act="silu", rope_theta=1e7, tie_word_embeddings=False),
            llama_like({"self_attn.q_proj.bias": (128,), "self_attn.k_proj.bias": (64,),
                        "self_attn.v_proj.bias": (64,)}, q=128, kv=64), {"plain": True})


@case
def exaone4():
    return ("Exaone4ForCausalLM", dict(SMALL, num_hidden_layers=5, sliding_window=32, sliding_window_pattern=4),
            llama_like({"post_feedforward_layernorm.weight": (H,), **HEAD_NORMS}, ("input_layernorm.weight",), n=5),
            {"runs": False})  # libllama knows the models by their 30 and 64 blocks


def with_experts(dense, moe, extra=None, router=None):
    t = llama_like(extra, MLP, n=dense + moe)
    for i in range(dense + moe):
        ffn = {n: ((H, F) if "down" in n else (F, H)) for n in MLP} if i < dense else {
            "mlp.gate.weight": (4, H), **experts(4, 48), "mlp.shared_experts.gate_proj.weight": (96, H),
            "mlp.shared_experts.up_proj.weight": (96, H), "mlp.shared_experts.down_proj.weight": (H, 96),
            **(router or {})}
        t |= {f"model.layers.{i}.{n}": s for n, s in ffn.items()}
    return t


DEEPSEEK = dict(SMALL, num_hidden_layers=3, n_routed_experts=4, n_shared_experts=2, moe_intermediate_size=48,
                num_experts_per_tok=2, first_k_dense_replace=1)


@case
def deepseek():
    return ("DeepseekForCausalLM", dict(DEEPSEEK, rms_norm_eps=1e-6, rope_theta=10000, scoring_func="softmax",
                                        model_type="deepseek"), with_experts(1, 2), {"plain": True})


@case
def glm4moe():
    return ("Glm4MoeForCausalLM", dict(DEEPSEEK, attention_bias=True, use_qk_norm=True, eos_token_id=3, pad_token_id=1,
                                       head_dim=HEAD),
            with_experts(1, 2, {**BIASES, **HEAD_NORMS}, {"mlp.gate.e_score_correction_bias": (4,)}),
            {"any_order": True})


@case
def openelm():
    t = {"transformer.token_embeddings.weight": ("vocab", H), "transformer.norm.weight": (H,)}
    for i, (q, kv, ffn) in enumerate(((4, 2, 32), (8, 4, 128))):
        block = {"attn_norm.weight": (H,), "ffn_norm.weight": (H,), "attn.qkv_proj.weight": ((q + 2 * kv) * HEAD, H),
                 "attn.q_norm.weight": (HEAD,), "attn.k_norm.weight": (HEAD,), "attn.out_proj.weight": (H, q * HEAD),
                 "ffn.proj_1.weight": (2 * ffn, H), "ffn.proj_2.weight": (H, ffn)}
        t |= {f"transformer.layers.{i}.{n}": s for n, s in block.items()}
    return ("OpenELMForCausalLM", dict(
        model_dim=H, num_transformer_layers=2, head_dim=HEAD, num_query_heads=[4, 8], num_kv_heads=[2, 4],
        ffn_multipliers=[0.5, 2.0], ffn_dim_divisor=32, max_context_length=256, rope_freq_constant=10000,
        model_type="openelm"), t, {**SPM, "plain": True})


@case
def glm():
    """Upstream takes the length of context from hidden_size, and another epsilon than the model's."""
    t = llama_like({**BIASES, "mlp.gate_up_proj.weight": (2 * F, H)}, ("mlp.gate_proj.weight", "mlp.up_proj.weight"))
    return ("GlmForCausalLM", dict(SMALL, head_dim=HEAD, attention_bias=True, pad_token_id=1, eos_token_id=3), t,
            {"any_order": True, "apart": ["chatglm.context_length", "chatglm.attention.layer_norm_rms_epsilon"]})


@case
def chatglm():
    block = {"input_layernorm.weight": (H,), "post_attention_layernorm.weight": (H,),
             **linear("self_attention.query_key_value", Q + 2 * KV, H), "self_attention.dense.weight": (H, Q),
             "mlp.dense_h_to_4h.weight": (2 * F, H), "mlp.dense_4h_to_h.weight": (H, F)}
    return ("ChatGLMModel", dict(hidden_size=H, ffn_hidden_size=F, num_layers=2, num_attention_heads=4,
                                 multi_query_attention=True, multi_query_group_num=2, kv_channels=HEAD, seq_length=256,
                                 layernorm_epsilon=1.5e-7, rope_ratio=500, rmsnorm=True, add_qkv_bias=True,
                                 add_bias_linear=False, model_type="chatglm"),
            {"transformer.embedding.word_embeddings.weight": ("vocab", H),
             "transformer.encoder.final_layernorm.weight": (H,), "transformer.output_layer.weight": ("vocab", H),
             "transformer.rotary_pos_emb.inv_freq": (8,), **layers("transformer.encoder.layers.", 2, block)},
            {"plain": True, "any_order": True})


# ---- encoders ------------------------------------------------------------------------------------

BERT = dict(hidden_size=H, intermediate_size=F, num_hidden_layers=2, num_attention_heads=4)


def bert_tensors(positions, types=2, prefix=""):
    block = {**norm("attention.output.LayerNorm"), **norm("output.LayerNorm"),
             **linear("attention.output.dense", H, Q), **linear("intermediate.dense", F, H),
             **linear("output.dense", H, F)}
    for x in ("query", "key", "value"):
        block |= linear(f"attention.self.{x}", Q, H)
    t = {"embeddings.word_embeddings.weight": ("vocab", H), "embeddings.position_embeddings.weight": (positions, H),
         "embeddings.token_type_embeddings.weight": (types, H), **norm("embeddings.LayerNorm"),
         **layers("encoder.layer.", 2, block), **linear("pooler.dense", H, H)}
    return {prefix + n: s for n, s in t.items()}


def pooling(**mode):
    """As sentence-transformers writes it."""
    return {"modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                             {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
            "1_Pooling/config.json": {"word_embedding_dimension": H, **mode}}


@case
def bert():
    return ("BertModel", dict(BERT, max_position_embeddings=128), bert_tensors(128),
            {"tokenizer": "wordpiece", "config": "BertConfig", "dtype": "F32", "types": ["f16"],
             "files": pooling(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)})


@case
def bert_masked():
    """As the first checkpoints: a prefix, other names for norms, and the head that fills in words."""
    t = {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): s
         for n, s in bert_tensors(128, prefix="bert.").items()}
    return ("BertForMaskedLM", dict(BERT, max_position_embeddings=128, hidden_act="gelu"),
            {**t, "cls.predictions.bias": ("vocab",), **linear("cls.predictions.transform.dense", H, H)},
            {"tokenizer": "wordpiece", "config": "BertConfig"})


@case
def distilbert():
    block = {**norm("sa_layer_norm"), **norm("output_layer_norm"), **linear("ffn.lin1", F, H), **linear("ffn.lin2", H, F)}
    for x in ("q", "k", "v", "out"):
        block |= linear(f"attention.{x}_lin", H, H)
    return ("DistilBertModel", dict(dim=H, hidden_dim=F, n_layers=2, n_heads=4, max_position_embeddings=128),
            {"embeddings.word_embeddings.weight": ("vocab", H), "embeddings.position_embeddings.weight": (128, H),
             **norm("embeddings.LayerNorm"), **layers("transformer.layer.", 2, block)},
            {"tokenizer": "wordpiece", "config": "DistilBertConfig", "files": pooling(pooling_mode="mean")})


@case
def roberta():
    return ("RobertaModel", dict(BERT, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1),
            bert_tensors(130, 1), {"tokenizer": "roberta", "config": "RobertaConfig",
                                   "files": pooling(pooling_mode_mean_tokens=True)})


# Upstream has the space from the model file alone, or from a default of the Python class.
XLM = {"tokenizer": "unigram", "config": "XLMRobertaConfig", "apart": ["tokenizer.ggml.add_space_prefix"]}


@case
def xlm_roberta():
    return ("XLMRobertaModel", dict(BERT, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1),
            bert_tensors(130, 1, "roberta."), XLM)


@case
def reranker():
    return ("XLMRobertaForSequenceClassification",
            dict(BERT, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, id2label={0: "LABEL_0"}),
            {**bert_tensors(130, 1, "roberta."), **linear("classifier.dense", H, H), **linear("classifier.out_proj", 1, H)},
            {**XLM, "mixes": False})  # the head's one row is a vector to us, a matrix to llama-quantize


@case
def nomic():
    block = {"attn.Wqkv.weight": (3 * Q, H), "attn.out_proj.weight": (H, Q), **norm("norm1"), **norm("norm2"),
             "mlp.fc11.weight": (F, H), "mlp.fc12.weight": (F, H), "mlp.fc2.weight": (H, F)}
    return ("NomicBertModel", dict(
        n_embd=H, n_head=4, n_inner=F, n_layer=2, n_positions=8192, max_trained_positions=2048, causal=False,
        prenorm=False, qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False, rotary_emb_fraction=1.0,
        rotary_emb_base=1000, rotary_emb_interleaved=False, rotary_emb_scale_base=None, activation_function="swiglu",
        layer_norm_epsilon=1e-12, type_vocab_size=2, model_type="nomic_bert"),
            {"embeddings.word_embeddings.weight": ("vocab", H), "embeddings.token_type_embeddings.weight": (2, H),
             **norm("emb_ln"), **layers("encoder.layers.", 2, block)},
            {"tokenizer": "wordpiece", "plain": True, "files": pooling(pooling_mode_mean_tokens=True)})


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
    fields = dict(fields)
    inner = facts.get("vocab_in")
    if inner:
        fields[inner] = dict(fields[inner], vocab_size=vocab)
    else:
        fields["vocab_size"] = vocab
    if facts.get("plain"):
        write_json(folder, "config.json", {"architectures": [architecture], **fields})
    else:
        import transformers

        config = getattr(transformers, facts.get("config") or architecture.replace("ForCausalLM", "Config"))
        config(architectures=[architecture], **fields).save_pretrained(folder)
    for file, value in facts.get("files", {}).items():
        os.makedirs(os.path.dirname(f"{folder}/{file}"), exist_ok=True)
        write_json(folder, file, value)
    rng = np.random.default_rng(len(name))
    weights = {n: numbers(s, n, rng, vocab) for n, s in tensors.items()}
    save_weights(folder, weights, facts.get("dtype", "BF16"), shards=facts.get("shards", 1))
    pre = {"bpe": "gpt-2", "wordpiece": "bert-bge", "roberta": "roberta-bpe"}
    return {"pre": pre.get(kind, "-"), "types": facts.get("types", ["bf16"]),
            **{k: facts[k] for k in ("near", "runs", "any_order", "upstream_fails", "mixes") if k in facts},
            # upstream is told a name of the pre-tokenizer, see convert_upstream.py
            "apart": ["tokenizer.ggml.pre", *facts.get("apart", ())]}
