_base_ = './resnet18_b128-lr_fashion-products.py'

# About 5 positives per image: with this weight each counts as much as a negative.
model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.1, pos_weight=5.0)),
)

train_dataloader = dict(dataset=dict(unknown='keep'))
