"""Tests of pretrained weights: names and layouts of torchvision and timm, and errors."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from fnn import data, lab, nn, optim, train, transfer
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError
from fnn.types import Weights

SHAPE = (32, 32, 3)
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@pytest.fixture(scope="module")
def resnet():
    return nn.resnet(18, 5, width=4)


@pytest.fixture(scope="module")
def random_weights(resnet):
    """Random params and state of a small ResNet-18, as NumPy arrays."""
    shapes = jax.eval_shape(lambda key: resnet.init(key, SHAPE)[:2], jax.random.key(0))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)


def as_torch(params, state, deep=False):
    """The same arrays under the names, and in the layout, of torchvision's ResNet-18.

    With `deep` they are those of timm's ResNet-18-D.
    """
    tensors = {"fc.weight": params["head"]["kernel"].T, "fc.bias": params["head"]["bias"]}

    def enter(name, normalization, conv, params, state):
        tensors[f"{name}.weight"] = params[conv]["kernel"].transpose(3, 2, 0, 1)
        norm = params[conv.replace("conv", "norm")] | state[conv.replace("conv", "norm")]
        tensors.update({f"{normalization}.{theirs}": norm[ours] for ours, theirs in NORM.items()})
        tensors[f"{normalization}.num_batches_tracked"] = np.array(3)

    stem = [("conv1", "bn1", "conv")]
    if deep:
        stem = [("conv1.0", "conv1.1", "conv_1"), ("conv1.3", "conv1.4", "conv_2")]
        stem.append(("conv1.6", "bn1", "conv_3"))
    for names in stem:
        enter(*names, params["stem"], state["stem"])
    for stage in range(1, 5):
        for block in range(2):
            params_of_block, state_of_block = (
                tree[f"stage_{stage}"][f"block_{block}"]["sum"] for tree in (params, state)
            )
            begin = f"layer{stage}.{block}"
            for conv in (1, 2):
                names = f"{begin}.conv{conv}", f"{begin}.bn{conv}", f"conv_{conv}"
                enter(*names, params_of_block["body"], state_of_block["body"])
            if "shortcut" in params_of_block:
                enter(
                    f"{begin}.downsample.{int(deep)}",
                    f"{begin}.downsample.{int(deep) + 1}",
                    "conv",
                    params_of_block["shortcut"],
                    state_of_block["shortcut"],
                )
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def tensors(random_weights):
    return as_torch(*random_weights)


@pytest.fixture
def load(resnet, tmp_path):
    """A function that writes tensors to a file and loads them."""

    def write_and_load(tensors, network=resnet, **options):
        save_file(tensors, tmp_path / "resnet18.safetensors")
        return lab.load_weights(tmp_path / "resnet18.safetensors", network, SHAPE, **options)

    return write_and_load


def test_weights_of_a_resnet_are_loaded(random_weights, tensors, load):
    got = load(tensors)
    assert jax.tree.structure(got) == jax.tree.structure(random_weights)
    jax.tree.map(np.testing.assert_array_equal, got, random_weights)
    assert len(tensors) == 20 * 6 + 2  # 20 convolutions, each with a batch norm of 5, and the head


@pytest.mark.slow
def test_loaded_weights_are_transferred_with_their_preprocessing(resnet, tensors, load):
    # Variances are positive, and kernels small enough for finite outputs.
    own = {name: abs(one) if name.endswith("running_var") else one for name, one in tensors.items()}
    weights = Weights(*load({name: one / np.float32(2) for name, one in own.items()}))
    means, deviations = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    recipe = train.recipe(resnet, optim.sgd(0.1), prepare=data.normalize(means, deviations))
    images = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    features = transfer.features(recipe, weights, images)
    assert features.shape == (3, 32)
    head = weights.params["head"]
    logits = features @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(logits, train.predict(recipe, weights, images), rtol=1e-4)
    plain = transfer.features(resnet, weights, images)
    prepared = transfer.features(resnet, weights, data.normalize(means, deviations)(images))
    np.testing.assert_allclose(prepared, features, rtol=1e-4)
    assert not np.allclose(plain, features, rtol=1e-2)
    tuned = transfer.head_only(recipe, weights, classes=3)
    params = train.start(jax.random.key(0), tuned, SHAPE).params
    assert {name: leaf.shape for name, leaf in params["head"].items()} == {
        "kernel": (32, 3),
        "bias": (3,),
    }
    assert list(params) == ["head"]


def test_weights_of_a_resnet_d_are_loaded(load, tensors):
    deep = nn.resnet(18, 5, width=4, variant="D")
    shapes = jax.eval_shape(lambda key: deep.init(key, SHAPE)[:2], jax.random.key(0))
    draw = np.random.default_rng(0)
    drawn = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape).astype(np.float32), shapes)
    of_deep = as_torch(*drawn, deep=True)
    jax.tree.map(np.testing.assert_array_equal, load(of_deep, deep), drawn)
    with pytest.raises(TreeMismatchError, match=r'of ResNet-D; give nn\.resnet\(.*variant="D"'):
        load(of_deep)
    with pytest.raises(TreeMismatchError, match="the names are those of timm's ResNet-D"):
        load(tensors, deep)


# For each layout of a ViT: the names outside of blocks, the prefix of a block, and those inside.
TORCHVISION = {
    "token": "class_token", "positions": "encoder.pos_embedding", "patches": "conv_proj.",
    "norm": "encoder.ln.", "head": "heads.head.", "block": "encoder.layers.encoder_layer_",
    "attention_norm": "ln_1.", "mlp_norm": "ln_2.", "joined": "self_attention.in_proj_",
    "output": "self_attention.out_proj.", "up": "mlp.0.", "down": "mlp.3.",
}  # fmt: skip
TIMM = {
    "token": "cls_token", "positions": "pos_embed", "patches": "patch_embed.proj.", "norm": "norm.",
    "head": "head.", "block": "blocks.", "attention_norm": "norm1.", "mlp_norm": "norm2.",
    "joined": "attn.qkv.", "output": "attn.proj.", "up": "mlp.fc1.", "down": "mlp.fc2.",
}  # fmt: skip
INNER = ("attention_norm", "mlp_norm", "joined", "output", "up", "down")
LEAF = ("weight", "bias")
WIDTH, HIDDEN, BLOCKS = 6, 12, 3


def random_vit(names):
    """Random tensors of a ViT under these names, in torch's layout."""
    shapes = {names["token"]: (1, 1, WIDTH), names["positions"]: (1, 5, WIDTH)}
    layers = {
        names["patches"]: (WIDTH, 3, 2, 2),
        names["norm"]: (WIDTH,),
        names["head"]: (5, WIDTH),
    }
    inner = {
        "attention_norm": (WIDTH,),
        "mlp_norm": (WIDTH,),
        "joined": (3 * WIDTH, WIDTH),
        "output": (WIDTH, WIDTH),
    }
    inner |= {"up": (HIDDEN, WIDTH), "down": (WIDTH, HIDDEN)}
    for block_index in range(BLOCKS):
        prefix = f"{names['block']}{block_index}."
        layers |= {f"{prefix}{names[name]}": shape for name, shape in inner.items()}
    for name, shape in layers.items():
        shapes |= {f"{name}weight": shape, f"{name}bias": shape[:1]}
    draw = np.random.default_rng(0)
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("names", [TORCHVISION, TIMM], ids=["torchvision", "timm"])
def test_weights_of_a_vit_are_loaded(names, tmp_path):
    tensors = random_vit(names)
    save_file(tensors, tmp_path / "vit.safetensors")
    network = nn.vit(2, 5, size=4, width=WIDTH, depth=BLOCKS, heads=2, expansion=2)
    params, state = lab.load_weights(tmp_path / "vit.safetensors", network, (4, 4, 3))
    assert state == {}
    same = np.testing.assert_array_equal
    same(params["tokens"]["token"]["value"], tensors[names["token"]][0])
    same(params["positions"]["table"], tensors[names["positions"]][0])
    same(params["patches"]["kernel"], tensors[f"{names['patches']}weight"].transpose(2, 3, 1, 0))
    same(params["head"]["kernel"], tensors[f"{names['head']}weight"].T)
    same(params["norm"]["scale"], tensors[f"{names['norm']}weight"])
    for block_index in range(BLOCKS):
        block = jax.tree.map(lambda leaf, i=block_index: leaf[i], params["blocks"]["body"])
        prefix = f"{names['block']}{block_index}."
        wanted = {}
        for name in INNER:
            wanted[name] = [tensors[f"{prefix}{names[name]}{leaf}"] for leaf in LEAF]
        for name, layer in (block["mlp"] | {"output": block["attention"]["output"]}).items():
            same(layer["kernel"], wanted[name][0].T)
            same(layer["bias"], wanted[name][1])
        for name in ("attention_norm", "mlp_norm"):
            same(block[name]["scale"], wanted[name][0])
        joined = [block["attention"][name] for name in ("query", "key", "value")]
        joined_kernel = np.concatenate([layer["kernel"] for layer in joined], 1)
        same(joined_kernel, wanted["joined"][0].T)
        joined_bias = np.concatenate([layer["bias"] for layer in joined])
        same(joined_bias, wanted["joined"][1])


def vit_of(**options):
    return nn.vit(2, 5, size=4, width=WIDTH, depth=BLOCKS, heads=2, expansion=2, **options)


def drawn_like(*shapes):
    draw = np.random.default_rng(1)
    return [draw.normal(size=shape).astype(np.float32) for shape in shapes]


def loaded(tensors, network, tmp_path, **options):
    save_file(tensors, tmp_path / "vit.safetensors")
    return lab.load_weights(tmp_path / "vit.safetensors", network, (4, 4, 3), **options)[0]


def test_weights_of_a_distilled_vit_are_loaded(tmp_path, key):
    token, positions, kernel, bias = drawn_like((1, 1, WIDTH), (1, 6, WIDTH), (5, WIDTH), (5,))
    tensors = random_vit(TIMM) | {"dist_token": token, "pos_embed": positions}
    tensors |= {"head_dist.weight": kernel, "head_dist.bias": bias}
    params = loaded(tensors, vit_of(distilled=True), tmp_path)
    same = np.testing.assert_array_equal
    same(params["tokens"]["distillation"]["value"], token[0])
    same(params["positions"]["table"], positions[0])
    same(params["head"]["classes"]["kernel"], tensors["head.weight"].T)
    same(params["head"]["distillation"]["kernel"], kernel.T)
    same(params["head"]["distillation"]["bias"], bias)
    # With a key both heads are new, whether they are in the file or not.
    again = loaded(tensors, vit_of(distilled=True), tmp_path, head_key=key)
    assert not np.array_equal(again["head"]["distillation"]["bias"], bias)
    same(again["tokens"]["distillation"]["value"], token[0])
    with pytest.raises(TreeMismatchError, match="a distillation token; give distilled=True"):
        loaded(tensors, vit_of(), tmp_path)


@pytest.mark.parametrize("name", ["reg_token", "register_tokens"])
def test_weights_of_a_vit_with_registers_are_loaded(name, tmp_path):
    registers, patches = drawn_like((1, 3, WIDTH), (1, 4, WIDTH))
    tensors = random_vit(TIMM) | {name: registers, "mask_token": registers[:, :1]}
    for block_index in range(BLOCKS):
        for part in ("ls1", "ls2"):
            (gamma,) = drawn_like((WIDTH,))
            tensors[f"blocks.{block_index}.{part}.gamma"] = gamma + block_index
    positions = tensors["pos_embed"][0]
    if name == "reg_token":
        # timm adds the position of the class token to that token.
        tensors["pos_embed"] = patches
        positions = np.concatenate([np.zeros((1, WIDTH), np.float32), patches[0]])
    params = loaded(tensors, vit_of(registers=3, layer_scale=1e-5), tmp_path)
    same = np.testing.assert_array_equal
    same(params["registers"]["registers"]["value"], registers[0])
    same(params["positions"]["table"], positions)
    for index, gammas in enumerate(params["blocks"]["body"]["mlp_scale"]["scale"]):
        same(gammas, tensors[f"blocks.{index}.ls2.gamma"])
    with pytest.raises(TreeMismatchError, match=f"{name}: .*register tokens; give registers="):
        loaded(tensors, vit_of(layer_scale=1.0), tmp_path)


def test_positions_of_another_number_of_patches_raise(tmp_path):
    tensors = random_vit(TIMM) | {"pos_embed": np.ones((1, 4, WIDTH), np.float32)}
    with pytest.raises(ShapeError, match="positions/table from pos_embed: expected shape"):
        loaded(tensors, vit_of(), tmp_path)


@pytest.mark.parametrize(
    "name, shape", [("blocks.1.attn.qkv.weight", (17, 6)), ("blocks.2.mlp.fc1.weight", (11, 6))]
)
def test_a_block_of_another_size_raises(name, shape, tmp_path):
    save_file(random_vit(TIMM) | {name: np.ones(shape, np.float32)}, tmp_path / "vit.safetensors")
    network = nn.vit(2, 5, size=4, width=WIDTH, depth=BLOCKS, heads=2, expansion=2)
    with pytest.raises(ShapeError, match=f"from {name}: expected shape"):
        lab.load_weights(tmp_path / "vit.safetensors", network, (4, 4, 3))


def test_loaded_weights_initialize_a_network(resnet, random_weights, tensors, load, key):
    params, state, out_shape = nn.pretrained(resnet, *load(tensors)).init(key, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, (params, state), random_weights)
    assert out_shape == (5,)


def test_float16_is_converted_to_float32(tensors, random_weights, load):
    halves = {
        name: tensor.astype(np.float16) if tensor.ndim else tensor
        for name, tensor in tensors.items()
    }
    params, _ = load(halves)
    assert params["head"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(
        params["head"]["kernel"], random_weights[0]["head"]["kernel"].astype(np.float16)
    )


def test_bfloat16_is_converted_to_float32_exactly(random_weights, tensors, load):
    narrow = {name: tensor.astype(jnp.bfloat16) for name, tensor in tensors.items()}
    params, _ = load(narrow)
    wanted = random_weights[0]["head"]["kernel"].astype(jnp.bfloat16).astype(np.float32)
    assert params["head"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(params["head"]["kernel"], wanted)


def test_a_header_whose_length_begins_as_a_pickle_is_read(
    tensors, resnet, random_weights, tmp_path
):
    path = tmp_path / "resnet18.safetensors"
    for padding in range(0, 256, 8):
        save_file(tensors, path, metadata={"note": "x" * padding})
        if path.read_bytes()[0] == 0x80:
            break
    got = lab.load_weights(path, resnet, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, got, random_weights)
    assert path.read_bytes()[0] == 0x80


def test_weights_in_shards_are_loaded(tensors, resnet, random_weights, tmp_path):
    shards = {name: f"model-{index % 2}.safetensors" for index, name in enumerate(tensors)}
    for shard in set(shards.values()):
        part = {name: tensor for name, tensor in tensors.items() if shards[name] == shard}
        save_file(part, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    got = lab.load_weights(index, resnet, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, got, random_weights)


def renamed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("prefix", ["module.", "layer1.backbone."])
def test_a_prefix_of_all_names_is_skipped(prefix, tensors, load, random_weights):
    got = load(renamed(tensors, prefix))
    jax.tree.map(np.testing.assert_array_equal, got, random_weights)


def test_a_prefix_selects_the_tensors_of_the_model(tensors, load, random_weights):
    mixed = renamed(tensors, "backbone.") | {"projector.weight": np.ones(3, np.float32)}
    got = load(mixed, prefix="backbone.")
    jax.tree.map(np.testing.assert_array_equal, got, random_weights)
    with pytest.raises(TreeMismatchError, match=r'got no such .*; give prefix="backbone\."'):
        load(mixed)
    with pytest.raises(ConfigError, match=r"prefix: .*as of backbone, projector, got 'model\.'"):
        load(mixed, prefix="model.")


def test_a_prefix_of_the_head_alone_is_not_advised(tensors, load):
    moved = {name.replace("fc.", "head.fc."): tensor for name, tensor in tensors.items()}
    with pytest.raises(TreeMismatchError, match=r"tensor fc\.bias, .* the network of the file's"):
        load(moved)


@pytest.mark.parametrize(("has_head", "classes"), [(True, 3), (False, 5)])
def test_a_head_key_draws_a_new_head(has_head, classes, tensors, load, random_weights, key):
    kept = {name: tensor for name, tensor in tensors.items() if has_head or "fc." not in name}
    network = nn.resnet(18, classes, width=4)
    params, state = load(renamed(kept, "module."), network, head_key=key)
    drawn, _, _ = network.init(key, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, params["head"], drawn["head"])
    wanted = random_weights[0] | {"head": drawn["head"]}
    jax.tree.map(np.testing.assert_array_equal, (params, state), (wanted, random_weights[1]))


def test_a_head_of_other_layers_is_drawn(tensors, load, random_weights, key):
    head = nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dense(2))
    network = nn.replace(nn.resnet(18, 5, width=4), "head", head)
    params, state = load(tensors, network, head_key=key)
    wanted, _, _ = network.init(key, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, params["head"], wanted["head"])
    stem = random_weights[0]["stem"]
    jax.tree.map(np.testing.assert_array_equal, params["stem"], stem)
    (norm,) = state["head"].values()
    assert norm["mean"].shape == (4,)


def test_a_file_without_a_head_raises_unless_a_key_is_given(tensors, load):
    kept = {name: tensor for name, tensor in tensors.items() if "fc." not in name}
    with pytest.raises(TreeMismatchError, match=r"tensor fc\.bias, .* or give head_key="):
        load(kept)
    with pytest.raises(DTypeError, match=r"head_key: expected a key"):
        load(kept, head_key=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dist_token", r"a distillation token; give distilled=True to nn\.vit"),
        ("module.reg_token", r"register tokens; give registers= to nn\.vit"),
        ("blocks.0.ls1.gamma", r"layer scale; give layer_scale= to nn\.vit"),
        ("fc_norm.weight", "a mean over the patches.*: take weights of a plain"),
    ],
)
def test_parts_of_other_models_are_named(name, message, tensors, load):
    with pytest.raises(TreeMismatchError, match=f"got one of {message}"):
        load(tensors | {name: np.ones(3, np.float32)})


WRONG = {
    "missing": (
        lambda tensors: {
            name: tensor
            for name, tensor in tensors.items()
            if name != "layer2.0.downsample.0.weight"
        },
        TreeMismatchError,
        r"shortcut/conv/kernel: expected a tensor layer2\.0\.downsample\.0\.weight, got no such",
    ),
    "extra": (
        lambda tensors: tensors | {"layer1.2.conv1.weight": np.ones((4, 4, 3, 3), np.float32)},
        TreeMismatchError,
        r"load_weights layer1\.2\.conv1\.weight: expected a leaf for it in the network, got no",
    ),
    "head": (
        lambda tensors: tensors | {"fc.weight": np.ones((7, 32), np.float32)},
        ShapeError,
        r"head/kernel from fc\.weight: expected shape \(32, 5\), got \(32, 7\); .*another head",
    ),
    "flat": (
        lambda tensors: tensors | {"fc.weight": np.ones(160, np.float32)},
        ShapeError,
        r"head/kernel from fc\.weight: expected shape \(32, 5\), got \(160,\)",
    ),
    "not turned": (
        lambda tensors: tensors | {"fc.weight": np.ones((32, 5), np.float32)},
        ShapeError,
        r"head/kernel from fc\.weight: expected shape \(32, 5\), got \(5, 32\)",
    ),
    "integers": (
        lambda tensors: tensors | {"fc.bias": np.ones(5, np.int8)},
        DTypeError,
        r"head/bias from fc\.bias: expected a dtype that float32 can hold, got I8",
    ),
    "double": (
        lambda tensors: tensors | {"fc.bias": np.ones(5)},
        DTypeError,
        r"head/bias from fc\.bias: expected a dtype that float32 can hold, got F64",
    ),
    "another model": (
        lambda tensors: {"a": np.ones(3)},
        TreeMismatchError,
        r"expected a tensor fc\.bias, got no such tensor",
    ),
    "empty": (
        lambda tensors: {},
        TreeMismatchError,
        r"expected a tensor fc\.bias, got no such tensor",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensors_that_do_not_fit_raise(case, tensors, load):
    change, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        load(change(tensors))


def test_a_network_of_another_kind_raises(tensors, load):
    with pytest.raises(
        ConfigError,
        match=r"network: expected an nn\.resnet or nn\.vit, got one with mlp_1/dense_1/",
    ):
        load(tensors, nn.chain(nn.flatten(), nn.mlp((3,))))


@pytest.mark.parametrize("begins", [b"PK\x03\x04", b"\x80\x02\x8a\n"])
def test_a_pickled_file_is_refused_without_reading(begins, resnet, tmp_path):
    path = tmp_path / "resnet18.pth"
    path.write_bytes(begins + bytes(100))
    with pytest.raises(
        ConfigError,
        match=r"got resnet18\.pth, pickled by torch\.save; .*save_file\(model\.state_dict",
    ):
        lab.load_weights(path, resnet, SHAPE)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_raises(size, tensors, resnet, tmp_path):
    path = tmp_path / "resnet18.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ConfigError, match="path: expected a complete safetensors file, got"):
        lab.load_weights(path, resnet, SHAPE)


def test_a_missing_file_raises(resnet, tmp_path):
    with pytest.raises(ConfigError, match="path: expected a file that exists, got"):
        lab.load_weights(tmp_path / "none.safetensors", resnet, SHAPE)
