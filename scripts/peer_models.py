"""Makes models of a shape, of made-up weights, for each engine that bench_peers.py measures beside FastServe.

None needs PyTorch or a converter: what is written is what the engine's own converter would write.
"""

import importlib.util
import json
import pathlib


class Skip(Exception):
    """Why an engine is not measured."""


def need(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Skip(f"the package {module} is not installed")


def head_size(shape: dict) -> int:
    return shape.get("head_dim", shape["hidden_size"] // shape["num_attention_heads"])


def tensors_of(shape: dict):
    """Name and shape of every tensor, as Hugging Face has them."""
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    head = head_size(shape)
    queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    yield "model.embed_tokens.weight", (shape["vocab_size"], hidden)
    for i in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "self_attn.q_proj.weight", (queries, hidden)
        yield layer + "self_attn.k_proj.weight", (keys, hidden)
        yield layer + "self_attn.v_proj.weight", (keys, hidden)
        yield layer + "self_attn.o_proj.weight", (hidden, queries)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        yield layer + "mlp.gate_proj.weight", (wide, hidden)
        yield layer + "mlp.up_proj.weight", (wide, hidden)
        yield layer + "mlp.down_proj.weight", (hidden, wide)
    yield "model.norm.weight", (hidden,)
    if not shape.get("tie_word_embeddings"):
        yield "lm_head.weight", (shape["vocab_size"], hidden)


class Weights:
    """Made-up weights: matrices uniform with variance 1 / columns, gains 1. No two matrices are alike: engines keep equal
    ones once, and would read less than a real model's."""

    def __init__(self):
        import numpy as np

        self.np = np
        self.matrices = 0
        self.block = np.random.default_rng(1).random((1 << 20) - 3, dtype=np.float32) * 2 - 1

    def make(self, size):
        np = self.np
        if len(size) == 1:
            return np.ones(size, np.float32)
        self.matrices += 1
        return np.resize(np.roll(self.block, 7919 * self.matrices), size) * np.float32((3 / size[1]) ** 0.5)

    def bf16(self, size):
        bits = self.make(size).view(self.np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(self.np.uint16)


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    plain = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
    if name in plain:
        return plain[name] + ".weight"
    _, _, number, module = name.removesuffix(".weight").split(".", 3)
    return f"blk.{number}.{GGUF_NAMES[module]}.weight"


def start_gguf(shape: dict, file: pathlib.Path):
    """A writer that knows what llama.cpp asks of every llama, whatever is to be done with it."""
    import gguf

    out = gguf.GGUFWriter(str(file), "llama")
    out.add_context_length(shape["max_position_embeddings"])
    out.add_embedding_length(shape["hidden_size"])
    out.add_block_count(shape["num_hidden_layers"])
    out.add_feed_forward_length(shape["intermediate_size"])
    out.add_head_count(shape["num_attention_heads"])
    out.add_head_count_kv(shape["num_key_value_heads"])
    out.add_layer_norm_rms_eps(shape["rms_norm_eps"])
    out.add_tokenizer_model("none")
    return out


def finish_gguf(out) -> None:
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_gguf(shape: dict, file: pathlib.Path) -> None:
    if file.exists():
        return
    need("gguf")
    import gguf

    part = file.with_suffix(".part")
    out = start_gguf(shape, part)
    out.add_rope_freq_base(shape["rope_theta"])
    out.add_vocab_size(shape["vocab_size"])
    weights = Weights()
    kinds = gguf.GGMLQuantizationType
    for name, size in tensors_of(shape):
        if len(size) == 1:
            out.add_tensor(gguf_name(name), weights.make(size))
        else:
            data = weights.bf16(size).view(weights.np.uint8).reshape(size[0], size[1] * 2)
            out.add_tensor(gguf_name(name), data, raw_dtype=kinds.BF16)
    finish_gguf(out)
    part.rename(file)


def quantize_by_llama_cpp(source: pathlib.Path, target: pathlib.Path, kind: str, **parameters) -> None:
    """`parameters`: fields of llama_model_quantize_params."""
    import llama_cpp

    how = llama_cpp.llama_model_quantize_default_params()
    how.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    for name, value in parameters.items():
        setattr(how, name, value)
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), how) != 0:
        raise Skip(f"llama.cpp cannot quantize to {kind}")


def quantize_gguf(source: pathlib.Path, target: pathlib.Path, name: str) -> None:
    if target.exists():
        return
    need("llama_cpp")
    part = target.with_suffix(".part")
    quantize_by_llama_cpp(source, part, name, nthread=2)
    part.rename(target)


def write_ctranslate2(shape: dict, folder: pathlib.Path) -> None:
    """Through the specs that the package's converters fill, too: nothing but numpy is needed."""
    if (folder / "model.bin").exists():
        return
    need("ctranslate2")
    from ctranslate2.specs import common_spec, transformer_spec

    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape["num_hidden_layers"],
        shape["num_attention_heads"],
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=shape["rope_theta"],
        num_heads_kv=shape["num_key_value_heads"],
    )
    weights = Weights()
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    keys = shape["num_key_value_heads"] * hidden // shape["num_attention_heads"]
    spec.decoder.scale_embeddings = False
    spec.decoder.embeddings.weight = weights.make((shape["vocab_size"], hidden))
    spec.decoder.layer_norm.gamma = weights.make((hidden,))
    spec.decoder.projection.weight = weights.make((shape["vocab_size"], hidden))
    for layer in spec.decoder.layer:
        layer.self_attention.layer_norm.gamma = weights.make((hidden,))
        layer.self_attention.linear[0].weight = weights.make((hidden + 2 * keys, hidden))
        layer.self_attention.linear[1].weight = weights.make((hidden, hidden))
        layer.ffn.layer_norm.gamma = weights.make((hidden,))
        layer.ffn.linear_0.weight = weights.make((wide, hidden))
        layer.ffn.linear_0_noact.weight = weights.make((wide, hidden))
        layer.ffn.linear_1.weight = weights.make((hidden, wide))
    tokens = ["<unk>", "<s>", "</s>"] + [f"t{i}" for i in range(3, shape["vocab_size"])]
    spec.register_vocabulary(tokens)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = "<s>", "</s>", "<unk>"
    spec.config.layer_norm_epsilon = shape["rms_norm_eps"]
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def blocks_of(matrix, columns: int):
    """Rows cut into blocks of that many columns."""
    return matrix.reshape(matrix.shape[0], -1, columns)


def two_a_byte(codes):
    """Codes of four bits, the first in the low half of its byte."""
    return codes[..., 0::2] | codes[..., 1::2] << 4


# -- OpenVINO: a graph as optimum-intel exports and NNCF compresses it; the engine's passes fuse it --------------------


def unsigned_with_zero(blocks, bits: int):
    """Codes of the lowest to the highest of each block, the scale, and the code that stands for zero."""
    import numpy as np

    low, high = (end(blocks, axis=-1, keepdims=True) for end in (np.min, np.max))
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = np.maximum((high - low) / (2**bits - 1), np.float32(1e-8)).astype(np.float16)
    step = scale.astype(np.float32)
    zero = np.clip(np.rint(-low / step), 0, 2**bits - 1)
    codes = np.clip(np.rint(blocks / step) + zero, 0, 2**bits - 1)
    return codes.astype(np.uint8), scale, zero.astype(np.uint8)


def write_openvino(shape: dict, folder: pathlib.Path, bits: int) -> None:
    """int8: one scale and zero a row. int4: one for each 128 columns; embedding and head stay int8, as NNCF has it."""
    if (folder / "config.json").exists():
        return
    need("openvino")
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    weights = Weights()
    hidden, heads, keys = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    head = head_size(shape)

    def integers(*values):
        return op.constant(np.array(values, np.int64))

    def number(value):
        return op.constant(np.float32(value))

    def halves(codes):
        held = ov.Tensor(ov.Type.u4, ov.Shape(codes.shape))
        held.data[:] = two_a_byte(codes.reshape(-1))
        return op.constant(held)

    def broadcast(value, size):
        return op.broadcast(value, op.concat(size, 0), broadcast_spec="BIDIRECTIONAL")

    def compressed(size, kind: int):
        blocks = blocks_of(weights.make(size), 128 if kind == 4 else size[1])
        codes, scale, zero = unsigned_with_zero(blocks, kind)
        if kind == 8:
            codes, scale, zero = op.constant(codes[:, 0]), scale[:, 0], op.constant(zero[:, 0])
        else:
            codes, zero = halves(codes), halves(zero)
        opened = op.multiply(op.subtract(op.convert(codes, "f16"), op.convert(zero, "f16")), op.constant(scale))
        if kind == 4:
            opened = op.reshape(opened, integers(*size), False)
        return op.convert(opened, "f32")

    def linear(rows, size, kind: int):
        return op.matmul(rows, compressed(size, kind), False, True)

    def norm(rows):
        mean = op.reduce_mean(op.power(rows, number(2)), integers(-1), True)
        normed = op.multiply(rows, op.divide(number(1), op.sqrt(op.add(mean, number(shape["rms_norm_eps"])))))
        return op.multiply(normed, op.constant(weights.make((hidden,)).reshape(1, 1, -1)))

    def heads_first(rows, count: int):
        return op.transpose(op.reshape(rows, integers(0, 0, count, head), True), integers(0, 2, 1, 3))

    def rotated(rows):
        low = op.slice(rows, integers(0), integers(head // 2), integers(1), integers(3))
        high = op.slice(rows, integers(head // 2), integers(2**63 - 1), integers(1), integers(3))
        turned = op.concat([op.multiply(high, number(-1)), low], -1)
        return op.add(op.multiply(rows, cos), op.multiply(turned, sin))

    def parameter(name: str, kind, dimensions: int):
        made = op.parameter([-1] * dimensions, kind, name=name)
        made.output(0).set_names({name})
        return made

    tokens = parameter("input_ids", ov.Type.i64, 2)
    mask = parameter("attention_mask", ov.Type.i64, 2)
    positions = parameter("position_ids", ov.Type.i64, 2)
    beam = parameter("beam_idx", ov.Type.i32, 1)
    count = op.gather(op.shape_of(tokens), integers(0), integers(0))

    # Cosines and sines of every position, of shape (sequences, 1, tokens, head).
    rates = (1 / shape["rope_theta"] ** (np.arange(0, head, 2, dtype=np.float32) / head)).astype(np.float32)
    rates = broadcast(op.constant(rates.reshape(1, -1, 1)), [count, integers(1, 1)])
    angles = op.matmul(rates, op.convert(op.unsqueeze(positions, integers(1)), "f32"), False, False)
    angles = op.transpose(angles, integers(0, 2, 1))
    angles = op.concat([angles, angles], -1)
    cos, sin = (op.unsqueeze(turn(angles), integers(1)) for turn in (op.cos, op.sin))

    # 0 where a token sees another, of shape (sequences, 1, tokens, tokens and those before).
    total = op.gather(op.shape_of(mask), op.constant(np.int64(1)), integers(0))
    fresh = op.gather(op.shape_of(tokens), op.constant(np.int64(1)), integers(0))
    columns = op.range(op.constant(np.int64(0)), total, op.constant(np.int64(1)), "i64")
    rows = op.range(op.subtract(total, fresh), total, op.constant(np.int64(1)), "i64")
    seen = op.less_equal(op.unsqueeze(columns, integers(0)), op.unsqueeze(rows, integers(1)))
    seen = op.logical_and(seen, op.convert(op.unsqueeze(mask, integers(1, 2)), "boolean"))
    bias = op.select(seen, number(0), number(-65504))

    sinks = []

    def cached(fresh_rows, name: str):
        empty = broadcast(number(0), [count, integers(keys, 0, head)])
        past = op.read_value(empty, name, ov.Type.f32, ov.PartialShape([-1, keys, -1, head]))
        past = op.gather(past, beam, op.constant(np.int64(0)))
        both = op.concat([past, fresh_rows], 2)
        sinks.append(op.assign(both, name))
        first, last = (op.gather(op.shape_of(both), integers(*two), integers(0)) for two in ((0, 1), (2, 3)))
        repeated = broadcast(op.unsqueeze(both, integers(2)), [first, integers(heads // keys), last])
        return op.reshape(repeated, integers(0, heads, -1, head), True)

    residual = op.gather(compressed((shape["vocab_size"], hidden), 8), op.convert(tokens, "i32"), integers(0))
    residual = op.reshape(residual, integers(0, 0, hidden), True)
    for i in range(shape["num_hidden_layers"]):
        normed = norm(residual)
        query = rotated(heads_first(linear(normed, (heads * head, hidden), bits), heads))
        key = rotated(heads_first(linear(normed, (keys * head, hidden), bits), keys))
        value = heads_first(linear(normed, (keys * head, hidden), bits), keys)
        key = cached(key, f"past_key_values.{i}.keypresent.{i}.key")
        value = cached(value, f"past_key_values.{i}.valuepresent.{i}.value")
        mixed = op.transpose(op.scaled_dot_product_attention(query, key, value, bias), integers(0, 2, 1, 3))
        mixed = op.reshape(mixed, integers(0, 0, heads * head), True)
        residual = op.add(residual, linear(mixed, (hidden, heads * head), bits))
        normed = norm(residual)
        gate = op.swish(linear(normed, (shape["intermediate_size"], hidden), bits))
        gated = op.multiply(gate, linear(normed, (shape["intermediate_size"], hidden), bits))
        residual = op.add(residual, linear(gated, (hidden, shape["intermediate_size"]), bits))
    logits = linear(norm(residual), (shape["vocab_size"], hidden), 8)
    logits.output(0).set_names({"logits"})
    model = ov.Model([op.result(logits)], sinks, [tokens, mask, positions, beam], "llama")
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    (folder / "config.json").write_text(json.dumps(shape))


# -- ONNX Runtime: the nodes that its model builder makes for CPUs -----------------------------------------------------


MICROSOFT = {"MatMulNBits", "GroupQueryAttention", "SkipSimplifiedLayerNormalization"}  # not the standard's nodes


def write_onnx(shape: dict, folder: pathlib.Path, bits: int) -> None:
    """As the builder's `-e cpu -p int4` (or int8): blocks of 32, symmetric, products of int8 activations; the embedding
    float32. Its option prune_lm_head is on: logits of the last position only."""
    if (folder / "genai_config.json").exists():
        return
    need("onnx")
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = Weights()
    nodes, constants = [], []
    hidden, heads, keys = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    layers, head, wide = shape["num_hidden_layers"], head_size(shape), shape["intermediate_size"]
    positions = max(16384, shape["max_position_embeddings"])  # what a cache may hold

    def constant(name: str, array) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind: str, inputs, *outputs, **attributes) -> str:
        domain = "com.microsoft" if kind in MICROSOFT else ""
        nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], domain=domain, **attributes))
        return outputs[0]

    def linear(name: str, rows: str, *sizes) -> str:
        matrix = np.concatenate([weights.make(size) for size in sizes])
        blocks = blocks_of(matrix, 32)
        middle = 2 ** (bits - 1)
        scale = np.maximum(np.abs(blocks).max(-1, keepdims=True) / (middle - 1), np.float32(1e-8))
        codes = np.clip(np.rint(blocks / scale) + middle, 0, 2 * middle - 1).astype(np.uint8)
        codes = constant(name + ".codes", two_a_byte(codes) if bits == 4 else codes)
        scales = constant(name + ".scales", scale[..., 0])
        return node("MatMulNBits", [rows, codes, scales], name, K=matrix.shape[1], N=matrix.shape[0], bits=bits,
                    block_size=32, accuracy_level=4)  # fmt: skip

    def norm(name: str, rows: str, more: str = ""):
        """Of the sum of both, which is returned, too."""
        gains = constant(name + ".gains", weights.make((hidden,)))
        epsilon = shape["rms_norm_eps"]
        if more:
            node("SkipSimplifiedLayerNormalization", [rows, more, gains], name, "", "", name + ".sum", epsilon=epsilon)
            return name, name + ".sum"
        return node("SimplifiedLayerNormalization", [rows, gains], name, axis=-1, stash_type=1, epsilon=epsilon), rows

    one = constant("one", np.array([1], np.int64))
    lengths = node("Sub", [node("ReduceSum", ["attention_mask", one], "lengths", keepdims=0), one], "lengths_less_one")
    lengths = node("Cast", [lengths], "seqlens_k", to=TensorProto.INT32)
    total = node("Gather", [node("Shape", ["attention_mask"], "mask_shape"), constant("1", np.int64(1))], "total")
    total = node("Cast", [total], "total_seq_len", to=TensorProto.INT32)
    angles = np.arange(positions)[:, None] / shape["rope_theta"] ** (np.arange(0, head, 2) / head)
    cos, sin = constant("cos", np.cos(angles).astype(np.float32)), constant("sin", np.sin(angles).astype(np.float32))

    embedding = constant("embedding", weights.make((shape["vocab_size"], hidden)))
    residual, added = node("Gather", [embedding, "input_ids"], "embedded"), ""
    for i in range(layers):
        at = f"layers.{i}."
        normed, residual = norm(at + "input_norm", residual, added)
        packed = linear(at + "qkv", normed, (heads * head, hidden), (keys * head, hidden), (keys * head, hidden))
        past = [f"past_key_values.{i}.key", f"past_key_values.{i}.value"]
        mixed = node("GroupQueryAttention", [packed, "", "", *past, lengths, total, cos, sin], at + "mixed",
                     f"present.{i}.key", f"present.{i}.value", num_heads=heads, kv_num_heads=keys, do_rotary=1,
                     rotary_interleaved=0, scale=head**-0.5)  # fmt: skip
        added = linear(at + "o", mixed, (hidden, heads * head))
        normed, residual = norm(at + "post_norm", residual, added)
        gate, up = linear(at + "gate", normed, (wide, hidden)), linear(at + "up", normed, (wide, hidden))
        gate = node("Mul", [gate, node("Sigmoid", [gate], at + "sigmoid")], at + "silu")
        added = linear(at + "down", node("Mul", [gate, up], at + "gated"), (hidden, wide))
    normed, _ = norm("norm", residual, added)
    last = node("Gather", [normed, constant("last", np.array([-1], np.int64))], "last_row", axis=1)
    linear("logits", last, (shape["vocab_size"], hidden))

    def value(name: str, *dimensions, kind=TensorProto.FLOAT):
        return helper.make_tensor_value_info(name, kind, dimensions)

    def caches(prefix: str, length: str):
        return [value(f"{prefix}.{i}.{which}", "batch", keys, length, head)
                for i in range(layers) for which in ("key", "value")]  # fmt: skip

    inputs = [value("input_ids", "batch", "tokens", kind=TensorProto.INT64),
              value("attention_mask", "batch", "all", kind=TensorProto.INT64)]  # fmt: skip
    outputs = [value("logits", "batch", 1, shape["vocab_size"])]
    graph = helper.make_graph(nodes, "llama", inputs + caches("past_key_values", "past"),
                              outputs + caches("present", "all"), constants)  # fmt: skip
    domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), folder / "model.onnx",
              save_as_external_data=True, location="model.onnx.data")  # fmt: skip
    config = {
        "model": {
            "type": "llama",
            "vocab_size": shape["vocab_size"],
            "context_length": positions,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": "model.onnx",
                "head_size": head,
                "hidden_size": hidden,
                "num_attention_heads": heads,
                "num_hidden_layers": layers,
                "num_key_value_heads": keys,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
            },
        },
        "search": {"do_sample": False, "max_length": positions, "past_present_share_buffer": True},
    }
    (folder / "genai_config.json").write_text(json.dumps(config, indent=1))
