_base_ = './resnet18_b128-lr_glyphs-attr.py'

# About 3.64 positives per image: with this weight each counts as much as a negative.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25, pos_weight=3.64)),
)
