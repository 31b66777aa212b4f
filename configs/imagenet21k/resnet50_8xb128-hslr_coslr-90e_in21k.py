_base_ = 'mmpretrain::resnet/resnet50_8xb128_coslr-90e_in21k.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C; the stock head has two classes more than there are synsets.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=0.01),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 21843),
    )
)

# There is no validation split; with the stock val_cfg and no data for it nothing starts.
val_cfg = None
test_cfg = None

# Half of the stock learning rate.
optim_wrapper = dict(optimizer=dict(lr=0.8 * 0.5))

# From all negatives to the hardest 1 % over the first 80 % of training.
custom_hooks = [
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=0.01, end=72)
]
