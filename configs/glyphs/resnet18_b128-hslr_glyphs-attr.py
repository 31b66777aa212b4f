_base_ = './resnet18_b128-lr_glyphs-attr.py'

# About 3.64 positives an image: with this weight each counts as much as a negative.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.3, pos_weight=[3.64] * 35)
    )
)

# From all negatives to the hardest 30 % over the first 80 % of training.
custom_hooks = [
    dict(type='PriorBiasHook'),
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.3, end=8),
]
