"""Quantized checkpoints of float matrices, as the usual tools store them, and the numbers they stand for.

Written from the formats' descriptions with whole-array numpy, nothing shared with sintra. Each builder takes
name → float32 matrix (out × in) and gives the stored tensors as name → (dtype, shape, bytes), and the float
tensors that reading them must give."""
import json

import numpy as np


def raw(kind, array):
    return kind, array.shape, np.ascontiguousarray(array).tobytes()


def stream(codes, bits):
    """Codes along the last axis as 32-bit words: a stream of bits, lowest first."""
    pad = -codes.shape[-1] * bits % 32
    spread = (codes[..., None].astype(np.uint32) >> np.arange(bits, dtype=np.uint32)) & 1
    spread = spread.reshape(*codes.shape[:-1], -1).astype(np.uint8)
    spread = np.concatenate([spread, np.zeros((*codes.shape[:-1], pad), np.uint8)], axis=-1)
    return np.packbits(spread, axis=-1, bitorder="little").view("<u4")


def grouped(w, bits, group, index):
    """Asymmetric codes by group of columns: codes (out × in), zeros and float16 scales (groups × out)."""
    count = -(-w.shape[1] // group)
    low = np.stack([w[:, index == g].min(axis=1) for g in range(count)])
    high = np.stack([w[:, index == g].max(axis=1) for g in range(count)])
    top = 2**bits - 1
    scales = (np.maximum(high - low, 1e-6) / top).astype(np.float16)
    zeros = np.clip(np.rint(-low / scales.astype(np.float32)), 1, top).astype(np.int64)
    codes = np.rint(w / scales.astype(np.float32)[index].T) + zeros[index].T
    return np.clip(codes, 0, top).astype(np.int64), zeros, scales


def gptq(weights, bits=4, group=32, version=1, shuffled=False, seed=1):
    rng, stored, floats = np.random.default_rng(seed), {}, {}
    for name, w in weights.items():
        index = np.arange(w.shape[1]) // group
        if shuffled:
            rng.shuffle(index)
        codes, zeros, scales = grouped(w, bits, group, index)
        stem = name.removesuffix("weight")
        stored[stem + "qweight"] = raw("I32", stream(codes, bits).T)
        stored[stem + "qzeros"] = raw("I32", stream((zeros - (version == 1)) % 2**bits, bits))
        stored[stem + "scales"] = raw("F16", scales)
        stored[stem + "g_idx"] = raw("I32", index.astype(np.int32))
        floats[name] = (codes - zeros[index].T).astype(np.float32) * scales.astype(np.float32)[index].T
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": shuffled, "sym": False,
              "checkpoint_format": "gptq" if version == 1 else "gptq_v2"}
    return stored, floats, config


def awq(weights, group=32):
    order, stored, floats = [0, 2, 4, 6, 1, 3, 5, 7], {}, {}

    def pack(codes):  # rows × out
        lanes = codes.reshape(len(codes), -1, 8)[:, :, order].astype(np.uint32)
        return (lanes << np.arange(0, 32, 4, dtype=np.uint32)).sum(axis=-1).astype("<u4")

    for name, w in weights.items():
        index = np.arange(w.shape[1]) // group
        codes, zeros, scales = grouped(w, 4, group, index)
        stem = name.removesuffix("weight")
        stored[stem + "qweight"] = raw("I32", pack(codes.T))
        stored[stem + "qzeros"] = raw("I32", pack(zeros))
        stored[stem + "scales"] = raw("F16", scales)
        floats[name] = (codes - zeros[index].T).astype(np.float32) * scales.astype(np.float32)[index].T
    return stored, floats, {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}


NF4 = np.array([
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1], np.float32)
FP4 = np.array([0, 0.0052083333, 2 / 3, 1, 1 / 3, 0.5, 1 / 6, 0.25], np.float32)
FP4 = np.concatenate([FP4, -FP4])


def dynamic_map():
    """The 256 signed values that bitsandbytes quantizes scales with."""
    values = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, 2**i + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0**(i - 6)
        values += [*middles, *-middles]
    return np.sort(np.array(values, np.float32))


def nearest(table, x):
    order = np.argsort(table, kind="stable")
    middles = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(middles, x)]


def bnb4(weights, kind="nf4", nested=True, block=64):
    table, stored, floats = NF4 if kind == "nf4" else FP4, {}, {}
    for name, w in weights.items():
        flat = w.reshape(-1)
        blocks = np.concatenate([flat, np.zeros(-len(flat) % block, np.float32)]).reshape(-1, block)
        scales = np.abs(blocks).max(axis=1).astype(np.float32)
        codes = nearest(table, blocks / np.maximum(scales, 1e-12)[:, None]).astype(np.uint8)
        even = codes.reshape(-1)[:len(flat) + len(flat) % 2].reshape(-1, 2)
        state = {"quant_type": kind, "blocksize": block, "dtype": "bfloat16", "shape": list(w.shape)}
        stored[name] = raw("U8", (even[:, 0] << 4 | even[:, 1]).astype(np.uint8)[:, None])
        stored[f"{name}.quant_map"] = raw("F32", table)
        if nested:
            offset, wide = np.float32(scales.mean()), dynamic_map()
            rest = scales - offset
            outer = np.concatenate([rest, np.zeros(-len(rest) % 256, np.float32)]).reshape(-1, 256)
            tops = np.abs(outer).max(axis=1).astype(np.float32)
            inner = nearest(wide, outer / np.maximum(tops, 1e-12)[:, None]).astype(np.uint8).reshape(-1)[:len(rest)]
            stored[f"{name}.absmax"] = raw("U8", inner)
            stored[f"{name}.nested_absmax"] = raw("F32", tops)
            stored[f"{name}.nested_quant_map"] = raw("F32", wide)
            state.update(nested_blocksize=256, nested_dtype="float32", nested_offset=float(offset))
            scales = wide[inner] * tops.repeat(256)[:len(rest)] + offset
        else:
            stored[f"{name}.absmax"] = raw("F32", scales)
        text = np.frombuffer(json.dumps(state).encode(), np.uint8)
        stored[f"{name}.quant_state.bitsandbytes__{kind}"] = raw("U8", text)
        floats[name] = (table[codes] * scales[:, None]).reshape(-1)[:len(flat)].reshape(w.shape)
    return stored, floats, {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False,
                            "bnb_4bit_quant_type": kind, "bnb_4bit_use_double_quant": nested}


def bnb8(weights):
    stored, floats = {}, {}
    for name, w in weights.items():
        scales = np.abs(w).max(axis=1).astype(np.float32)
        codes = np.rint(w * (127 / scales)[:, None]).astype(np.int8)
        stored[name] = raw("I8", codes)
        stored[name.removesuffix("weight") + "SCB"] = raw("F32", scales)
        stored[name.removesuffix("weight") + "weight_format"] = ("U8", (), b"\0")
        floats[name] = codes.astype(np.float32) * scales[:, None] * np.float32(1 / 127)
    return stored, floats, {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}


def mxfp4(weights):
    values, stored, floats = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32), {}, {}
    for name, w in weights.items():
        blocks = w.reshape(len(w), -1, 32)
        top = np.maximum(np.abs(blocks).max(axis=-1), 2.0**-100)
        exponents = np.clip(np.floor(np.log2(top)) - 2, -127, 127).astype(int)
        scaled = blocks / np.exp2(exponents)[..., None]
        codes = nearest(values, np.abs(scaled)).astype(np.uint8) | (scaled < 0).astype(np.uint8) << 3
        pairs = codes.reshape(*codes.shape[:2], 16, 2)
        stored[f"{name}_blocks"] = raw("U8", pairs[..., 0] | pairs[..., 1] << 4)
        stored[f"{name}_scales"] = raw("U8", (exponents + 127).astype(np.uint8))
        signed = np.where(codes & 8, -values[codes & 7], values[codes & 7])
        floats[name] = (signed * np.exp2(exponents)[..., None]).astype(np.float32).reshape(w.shape)
    return stored, floats, {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens", "lm_head"]}


CASES = {
    **{f"gptq-{bits}{'-v2' if version == 2 else ''}{'-act-order' if shuffled else ''}":
       lambda w, b=bits, v=version, s=shuffled: gptq(w, b, 32, v, s)
       for bits in (2, 3, 4, 8) for version in (1, 2) for shuffled in (False, True)},
    "awq": awq,
    "nf4": lambda w: bnb4(w, "nf4", False), "nf4-double": bnb4,
    "fp4": lambda w: bnb4(w, "fp4", False), "fp4-double": lambda w: bnb4(w, "fp4", True),
    "nf4-blocks-of-256": lambda w: bnb4(w, "nf4", True, 256),
    "int8": bnb8, "mxfp4": mxfp4,
}
