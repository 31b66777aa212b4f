_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'
custom_imports = dict(imports=['frlr_mm'])

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.3)),
)

custom_hooks = [
    # The bias starts at the prior, the label frequencies of the training data.
    dict(type='PriorBiasHook'),
    # From all classes to the hardest 3 over the first 80 % of training. 1 / C, the least there is,
    # would push down one class per image and step. Not tuned.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.3, end=0.8),
]
