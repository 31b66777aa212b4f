# Several labels per image: data/my_labels/{train,val}.json, which name images in it.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

num_classes = 12
pos_weight = 2.5  # the number of positive labels of an average image

loss = dict(type='SSLRLoss', alpha='sum', gamma=0.25, pos_weight=pos_weight)
head = dict(type='MultiLabelLinearClsHead', num_classes=num_classes, in_channels=512, loss=loss)
model = dict(head=dict(_delete_=True, **head))
data_preprocessor = dict(num_classes=num_classes)

dataset = dict(_delete_=True, type='MultiLabelDataset', data_root='data/my_labels')
train = dict(dataset, ann_file='train.json', pipeline=_base_.train_pipeline)
val = dict(dataset, ann_file='val.json', pipeline=_base_.test_pipeline)
train_dataloader = dict(batch_size=32, dataset=train)
val_dataloader = dict(batch_size=32, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='AttributeMetric', topk=3)
test_evaluator = val_evaluator

# Of 0.1 for 256 images per step, the part for 32.
optim_wrapper = dict(optimizer=dict(lr=0.0125))
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=30, end=30)
train_cfg = dict(max_epochs=30)

custom_hooks = [dict(type='PriorBiasHook')]
