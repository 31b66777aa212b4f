# ViT-B/16 on ImageNet-1k with SS-LR: the stock recipe (mixup, cutmix, EMA) with another loss.
_base_ = 'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

# SS-LR and not HS-LR: a mixed image has two classes, and both, being partly negative, would take
# places in HS-LR's hard selection; SS-LR keeps every class in the loss.
# The classifier's bias starts at the prior 1 / C, its weights at 0 as in the stock head.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Constant', layer='Linear', val=0, bias_prob=1 / 1000),
    )
)
