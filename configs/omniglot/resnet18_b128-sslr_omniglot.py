_base_ = './resnet18_b128-sr_omniglot.py'

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25)),
)

# The bias starts at the prior, the label frequencies of the training data.
custom_hooks = [dict(type='PriorBiasHook')]
