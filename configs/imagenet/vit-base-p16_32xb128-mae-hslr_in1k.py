_base_ = '../vit-base-p16_frlr.py'

model = dict(head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01)))

custom_hooks = _base_.custom_hooks + [
    # From all classes to the hardest 1 % over the first 80 % of training.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=0.8),
]
