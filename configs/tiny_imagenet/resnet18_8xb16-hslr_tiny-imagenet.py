_base_ = './resnet18_8xb16-sr_tiny-imagenet.py'

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.05)),
)

custom_hooks = [
    # The bias starts at the prior, the label frequencies of the training data.
    dict(type='PriorBiasHook'),
    # From all negatives to the hardest 10 of 200 over the first 80 % of training.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.05, end=0.8),
]
