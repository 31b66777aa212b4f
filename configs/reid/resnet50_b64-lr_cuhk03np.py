_base_ = './resnet50_b64-sr_cuhk03np.py'

# Plain logistic regression: SS-LR with gamma 0. The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.0),
        init_cfg=dict(type='Normal', layer='Linear', std=0.001, bias_prob=1 / 767),
    )
)
