"""Names of tensors in the weights of torchvision and timm, by the paths of fnn's networks."""

# The names in a file of each path of a network. `*` is the leaf in torch's word; `{}` is the index
# of a block whose arrays are stacked in fnn. Brackets name the part of an array that torch joins
# along the outputs, as query, key and value.
RESNET_BODY = {
    r"stage_(\d)/block_(\d+)/sum/body/conv_(\d)": r"layer\1.\2.conv\3.*",
    r"stage_(\d)/block_(\d+)/sum/body/norm_(\d)": r"layer\1.\2.bn\3.*",
    r"head": "fc.*",
}
RESNET = RESNET_BODY | {
    r"stem/conv": "conv1.*",
    r"stem/norm": "bn1.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/conv": r"layer\1.\2.downsample.0.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/norm": r"layer\1.\2.downsample.1.*",
}
# The first part of a shortcut is a pool.
RESNET_D = RESNET_BODY | {
    r"stem/conv_1": "conv1.0.*",
    r"stem/norm_1": "conv1.1.*",
    r"stem/conv_2": "conv1.3.*",
    r"stem/norm_2": "conv1.4.*",
    r"stem/conv_3": "conv1.6.*",
    r"stem/norm_3": "bn1.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/conv": r"layer\1.\2.downsample.1.*",
    r"stage_(\d)/block_(\d+)/sum/shortcut/norm": r"layer\1.\2.downsample.2.*",
}
VIT_BLOCK = "encoder.layers.encoder_layer_{}"
VIT = {
    r"tokens/token/value": "class_token",
    r"positions/table": "encoder.pos_embedding",
    r"patches": "conv_proj.*",
    r"blocks/body/attention_norm": f"{VIT_BLOCK}.ln_1.*",
    r"blocks/body/attention/(query|key|value)": rf"{VIT_BLOCK}.self_attention.in_proj_*[\1]",
    r"blocks/body/attention/output": f"{VIT_BLOCK}.self_attention.out_proj.*",
    r"blocks/body/mlp_norm": f"{VIT_BLOCK}.ln_2.*",
    r"blocks/body/mlp/up": f"{VIT_BLOCK}.mlp.0.*",
    r"blocks/body/mlp/down": f"{VIT_BLOCK}.mlp.3.*",
    r"norm": "encoder.ln.*",
    r"head": "heads.head.*",
}
TIMM_VIT = {
    r"tokens/token/value": "cls_token",
    r"tokens/distillation/value": "dist_token",
    r"registers/registers/value": "reg_token",
    r"positions/table": "pos_embed",
    r"patches": "patch_embed.proj.*",
    r"blocks/body/attention_norm": "blocks.{}.norm1.*",
    r"blocks/body/attention/(query|key|value)": r"blocks.{}.attn.qkv.*[\1]",
    r"blocks/body/attention/output": "blocks.{}.attn.proj.*",
    r"blocks/body/attention_scale/scale": "blocks.{}.ls1.gamma",
    r"blocks/body/mlp_norm": "blocks.{}.norm2.*",
    r"blocks/body/mlp/up": "blocks.{}.mlp.fc1.*",
    r"blocks/body/mlp/down": "blocks.{}.mlp.fc2.*",
    r"blocks/body/mlp_scale/scale": "blocks.{}.ls2.gamma",
    r"norm": "norm.*",
    r"head": "head.*",
    r"head/classes": "head.*",
    r"head/distillation": "head_dist.*",
}
# The authors' own names, whose other tensors are named as in timm.
DINOV2_VIT = TIMM_VIT | {r"registers/registers/value": "register_tokens"}
LAYOUTS = {
    "torchvision's and timm's ResNet": RESNET,
    "timm's ResNet-D": RESNET_D,
    "torchvision's ViT": VIT,
    "timm's ViT": TIMM_VIT,
    "DINOv2's ViT": DINOV2_VIT,
}

# Parts of other models of the same families, by a pattern of the names of their tensors, and the
# option of the network that has them; None if there is none.
OPTIONS = {
    r"(.*\.)?(dist_token|head_dist\.\w+)": ("a distillation token", "distilled=True"),
    r"(.*\.)?(reg_token|register_tokens)": ("register tokens", "registers="),
    r".*\.ls[12]\.gamma": ("layer scale", "layer_scale="),
}
UNSUPPORTED = {
    r"(.*\.)?fc_norm\.\w+": "a mean over the patches",
}
# Plain shortcuts have a convolution, 0, and its norm, 1.
OF_RESNET_D = r"(.*\.)?conv1\.\d\.\w+|.*\.downsample\.2\.\w+"
