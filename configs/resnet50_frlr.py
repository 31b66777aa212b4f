# ResNet-50 on ImageNet-1k with HS-LR: the stock recipe with another loss.
_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

# HS-LR and not SS-LR: labels are single and hard here, the case that Eq. 5 was written for.
# The classifier's bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 1000),
    )
)

# Logistic losses like a smaller learning rate than softmax: half of the stock one.
optim_wrapper = dict(optimizer=dict(lr=0.1 * 0.5))

# From all classes to the hardest 1 % over the first 80 % of training.
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=80)
]
