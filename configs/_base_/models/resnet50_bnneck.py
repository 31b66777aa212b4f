# ResNet-50 for persons: 16 x 8 positions of the last stage, BNNeck, ImageNet weights.
# --cfg-options model.backbone.init_cfg=None trains from scratch.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        num_stages=4,
        strides=(1, 2, 2, 1),
        out_indices=(3,),
        style='pytorch',
        init_cfg=dict(
            type='Pretrained',
            # of mmpretrain's resnet50_8xb32_in1k
            checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
            'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
            prefix='backbone',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='BNNeckHead',
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        init_cfg=dict(type='Normal', layer='Linear', std=0.001),
    ),
)
