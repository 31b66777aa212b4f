optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=0.00035, weight_decay=0.0005),
    # Weight decay would pull the bias of a logistic loss from the prior's log-odds to 0.
    paramwise_cfg=dict(custom_keys={'head.fc.bias': dict(decay_mult=0.0)}),
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(type='MultiStepLR', by_epoch=True, milestones=[40, 70], gamma=0.1),
]

train_cfg = dict(by_epoch=True, max_epochs=120, val_interval=20)
val_cfg = dict()
test_cfg = dict()

# base_batch_size = (1 process) x (64 images)
auto_scale_lr = dict(base_batch_size=64)
