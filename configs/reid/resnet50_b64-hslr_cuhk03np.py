_base_ = './resnet50_b64-sr_cuhk03np.py'

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01),
        init_cfg=dict(type='Normal', layer='Linear', std=0.001, bias_prob=1 / 767),
    )
)

# From all negatives to the hardest 1 % over the first 80 % of training.
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=96)
]
