_base_ = 'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Constant', layer='Linear', val=0, bias_prob=1 / 1000),
    )
)
