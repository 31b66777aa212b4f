# Stock weights, trained on ImageNet-1k. Another file: model.backbone.init_cfg.checkpoint=...; from
# scratch: model.backbone.init_cfg=None.
checkpoint = 'https://download.openmmlab.com/mmclassification/v0/vit/vit-base-p16_pt-32xb128-mae_in1k_20220623-4c544545.pth'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='b',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        # one vector per image, which is what the head takes
        out_type='cls_token',
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone'),
    ),
    neck=None,
    head=dict(
        type='MultiLabelLinearClsHead',
        in_channels=768,
        # plain logistic regression, summed over the attributes
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01),
    ),
)
