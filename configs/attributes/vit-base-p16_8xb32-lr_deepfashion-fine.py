_base_ = [
    '../_base_/models/vit-base-p16_attributes.py',
    '../_base_/datasets/deepfashion-fine_bs32.py',
    '../_base_/schedules/attributes_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]
custom_imports = dict(imports=['frlr_mm'])

model = dict(head=dict(num_classes=26))

# The bias starts at the prior, the label frequencies of the training data.
custom_hooks = [dict(type='PriorBiasHook')]

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
