# ViT-B/16 on ImageNet-1k with SS-LR: the stock recipe (mixup, cutmix, EMA) with another loss.
_base_ = 'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

# SS-LR and not HS-LR: a mixed image has two classes, and both, being partly negative, would take
# places in HS-LR's hard selection; SS-LR keeps every class in the loss.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25)),
)

# The bias starts at the prior, the label frequencies of the training data.
custom_hooks = _base_.custom_hooks + [dict(type='PriorBiasHook')]
