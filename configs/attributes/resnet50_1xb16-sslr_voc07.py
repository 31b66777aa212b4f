_base_ = './resnet50_1xb16-lr_voc07.py'

# About 1.5 positives per image: with this weight each counts as much as a negative.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25, pos_weight=1.5)),
)
