_base_ = './vit-base-p16_8xb32-lr_deepfashion-fine.py'

# About 6 positives per image: with this weight each counts as much as a negative.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25, pos_weight=6.0)),
)
