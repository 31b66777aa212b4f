_base_ = './vit-base-p16_8xb32-lr_deepfashion-coarse.py'

# About 5 positives per image: with this weight each counts as much as a negative.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.1, pos_weight=5.0)),
)

train_dataloader = dict(dataset=dict(unknown='keep'))

custom_hooks = [
    # The bias starts at the prior, the label frequencies of the training data.
    dict(type='PriorBiasHook'),
    # From all negatives to the hardest 10 % over the first 80 % of training.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1, end=0.8),
]
