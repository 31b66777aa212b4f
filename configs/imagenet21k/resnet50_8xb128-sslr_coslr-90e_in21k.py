_base_ = 'mmpretrain::resnet/resnet50_8xb128_coslr-90e_in21k.py'
custom_imports = dict(imports=['frlr_mm'])

# The bias starts at the prior 1 / C; the stock head has two classes more than there are synsets.
model = dict(
    head=dict(
        loss=dict(_delete_=True, type='SSLRLoss', alpha='sum', gamma=0.25),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias_prob=1 / 21843),
    )
)

# There is no validation split; with the stock val_cfg and no data for it nothing starts.
val_cfg = None
test_cfg = None

# Half of the stock learning rate.
optim_wrapper = dict(optimizer=dict(lr=0.8 * 0.5))
