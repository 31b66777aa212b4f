_base_ = 'mmpretrain::resnet/resnet50_8xb16_cifar100.py'
custom_imports = dict(imports=['frlr_mm'])

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.1)),
)

custom_hooks = [
    # The bias starts at the prior, the label frequencies of the training data.
    dict(type='PriorBiasHook'),
    # From all classes to the hardest 10, as many as on ImageNet-1k, over the first 80 % of
    # training. Not tuned.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1, end=0.8),
]
