_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.3),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 10),
    )
)

# Half of the stock learning rate.
optim_wrapper = dict(optimizer=dict(lr=0.1 * 0.5))

# From all classes to the hardest 3 over the first 80 % of training. 1 / C, the least there is,
# would push down one class of an image at a step. Not tuned.
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.3, end=160)
]
