_base_ = 'mmpretrain::resnet/resnet50_8xb16_cifar100.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.1),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 100),
    )
)

# Half of the stock learning rate.
optim_wrapper = dict(optimizer=dict(lr=0.1 * 0.5))

# From all classes to the hardest 10, as many as on ImageNet-1k, over the first 80 % of training.
# Not tuned.
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1, end=160)
]
