_base_ = 'mmpretrain::resnet/resnet50_8xb128_coslr-90e_in21k.py'
custom_imports = dict(imports=['frlr_mm'])

model = dict(
    type='LogisticClassifier',
    head=dict(loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01)),
)

# There is no validation split; with the stock val_cfg and no data for it nothing starts.
val_cfg = None
test_cfg = None

custom_hooks = [
    # The bias starts at the prior, the label frequencies of the training data. The stock head has
    # two outputs more than there are synsets.
    dict(type='PriorBiasHook', allow_unused=True),
    # From all negatives to the hardest 1 % over the first 80 % of training.
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=0.8),
]
