_base_ = './resnet18_b128-sr_glyphs.py'

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 1000),
    )
)
