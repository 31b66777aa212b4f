_base_ = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(
            _delete_=True, type='TruncNormal', layer='Linear', std=0.02, bias_prob=1 / 1000
        ),
    )
)
