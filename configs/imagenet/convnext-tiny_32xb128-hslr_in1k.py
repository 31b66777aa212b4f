_base_ = 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01)),
)

custom_hooks = _base_.custom_hooks + [
    # The bias starts at the prior, the label frequencies of the training data.
    dict(type='PriorBiasHook'),
    # From all classes to the hardest 1 % over the first 80 % of training.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=0.8),
]
