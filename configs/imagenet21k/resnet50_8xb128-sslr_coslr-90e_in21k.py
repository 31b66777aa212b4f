_base_ = 'mmpretrain::resnet/resnet50_8xb128_coslr-90e_in21k.py'
custom_imports = dict(imports=['frlr_mm'])

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25)),
)

# There is no validation split; with the stock val_cfg and no data for it nothing starts.
val_cfg = None
test_cfg = None

# The bias starts at the prior, the label frequencies of the training data. The stock head has two
# outputs more than there are synsets.
custom_hooks = [dict(type='PriorBiasHook', allow_unused=True)]
