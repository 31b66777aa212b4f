_base_ = './resnet18_b128-lr_glyphs-attr.py'

# About 3.64 positives per image: with this weight each counts as much as a negative.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.3, pos_weight=3.64)),
)

custom_hooks = [
    # The bias starts at the prior, the label frequencies of the training data.
    dict(type='PriorBiasHook'),
    # From all negatives to the hardest 30 % over the first 80 % of training, exponentially: so it
    # was when the results were measured.
    dict(
        type='FocusAnnealingHook',
        param='ratio',
        start_value=1.0,
        end_value=0.3,
        schedule='exponential',
        end=0.8,
    ),
]
