_base_ = './resnet18_b128-lr_glyphs-attr.py'

model = dict(head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.1)))

# From all negatives to the hardest 10 % over the first 80 % of training.
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1, end=8)
]
