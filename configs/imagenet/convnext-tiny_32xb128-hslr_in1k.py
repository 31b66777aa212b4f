_base_ = 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01),
        init_cfg=dict(
            _delete_=True, type='TruncNormal', layer='Linear', std=0.02, bias_prob=1 / 1000
        ),
    )
)

# From all classes to the hardest 1 % over the first 80 % of training, after the stock EMA.
custom_hooks = _base_.custom_hooks + [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=240)
]
