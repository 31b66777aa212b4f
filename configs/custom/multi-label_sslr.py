# Several labels per image: data/my_labels/{train,val}.json, which name images in it.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

num_classes = 12
loss = dict(type='SSLRLoss', alpha='sum', gamma=0.1)  # 0.0 is plain logistic regression
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

optim_wrapper = dict(optimizer=dict(lr=0.0125))  # of 0.1 for 256 images, the part for 32
auto_scale_lr = dict(base_batch_size=32)
num_epochs = 30
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=num_epochs, end=num_epochs)
train_cfg = dict(max_epochs=num_epochs)

custom_hooks = [
    dict(type='PriorBiasHook'),
    # Each of several labels of an image counts as much as a negative.
    dict(type='PosWeightHook', exponent=0.0, per_image=True),
]
