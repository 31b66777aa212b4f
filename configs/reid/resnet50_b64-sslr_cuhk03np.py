_base_ = './resnet50_b64-sr_cuhk03np.py'

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Normal', layer='Linear', std=0.001, bias_prob=1 / 767),
    )
)
