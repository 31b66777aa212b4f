# One label per image: a folder of images per class, data/my_images/{train,val}/CLASS/*.jpg.
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
custom_imports = dict(imports=['frlr_mm'])

num_classes = 20  # the number of folders
ratio = 0.3  # where the annealing ends: six of 20 classes

loss = dict(_delete_=True, type='HSLRLoss', alpha='sum', ratio=ratio)
model = dict(type='LogisticClassifier', head=dict(num_classes=num_classes, loss=loss))
data_preprocessor = dict(num_classes=num_classes)

dataset = dict(_delete_=True, type='CustomDataset', data_root='data/my_images')
train = dict(dataset, data_prefix='train', pipeline=_base_.train_pipeline)
val = dict(dataset, data_prefix='val', pipeline=_base_.test_pipeline)
train_dataloader = dict(batch_size=32, dataset=train)
val_dataloader = dict(batch_size=32, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=0.0125))  # of 0.1 for 256 images, the part for 32
auto_scale_lr = dict(base_batch_size=32)
num_epochs = 30
param_scheduler = dict(_delete_=True, type='CosineAnnealingLR', T_max=num_epochs, end=num_epochs)
train_cfg = dict(max_epochs=num_epochs)

custom_hooks = [
    dict(type='PriorBiasHook'),
    dict(type='FocusAnnealingHook', param='ratio', start_value=1.0, end_value=ratio, end=0.8),
]
