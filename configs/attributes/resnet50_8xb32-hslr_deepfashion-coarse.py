_base_ = './resnet50_8xb32-lr_deepfashion-coarse.py'

# About 5 positives an image: with this weight each counts as much as a negative.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.1, pos_weight=[5.0] * 1000)
    )
)

train_dataloader = dict(dataset=dict(unknown='keep'))

# From all negatives to the hardest 10 % over the first 80 % of training.
custom_hooks = [
    dict(type='PriorBiasHook'),
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.1, end=16),
]
