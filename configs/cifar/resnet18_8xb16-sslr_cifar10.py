_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 10),
    )
)

# Half of the stock learning rate.
optim_wrapper = dict(optimizer=dict(lr=0.1 * 0.5))
