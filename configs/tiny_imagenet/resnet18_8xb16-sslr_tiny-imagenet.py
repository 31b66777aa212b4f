_base_ = './resnet18_8xb16-sr_tiny-imagenet.py'

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 200),
    )
)

# Half of the learning rate of softmax.
optim_wrapper = dict(optimizer=dict(lr=0.1 * 0.5))
